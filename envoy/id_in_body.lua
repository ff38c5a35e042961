-- Reads the id in a request's body, for rules with `json` or `form` (docs/configuration.md), and puts it into the key that
-- routes are found by. A body that says it less plainly, or is longer, keeps a key without an id: the processor decides it.

-- Octets: what takes a worker of Envoy a few milliseconds at worst.
local LENGTH_MAX = 16384

-- The one place in `text` where `name` stands in quotes, in any case of letters: nil where there is none, or another.
local function only_place(text, name)
  local quoted = '"' .. name:lower() .. '"'
  local first, last = text:find(quoted, 1, true)
  if first and not text:find(quoted, last, true) then return last + 1 end
end

-- The filter id_json has parsed the body. It takes the last of two members with one name, and numbers as they come:
-- each name on the way must stand in the body once, and the id as it is. Escapes may make a name, and two letters beyond ASCII are
-- an "s" and a "k" to Go: the long s, and the sign of Kelvin.
local function from_json(body, names, parsed)
  local lower, place = body:lower(), nil
  if parsed == nil or not body:find("^%s*{") then return end
  for _, other in ipairs({ "\\u00", "\\u017f", "\\u212a", "\197\191", "\226\132\170" }) do
    if lower:find(other, 1, true) or body:find(other, 1, true) then return end
  end
  for name in names:gmatch("[^\n]+") do
    place = only_place(lower, name)
    if not place then return end
  end
  local id = body:match('^%s*:%s*"([%w-]+)"%s*[,}]', place) or body:match("^%s*:%s*(%d+)%s*[,}]", place)
  if id and #id <= 15 and (id == parsed or tonumber(id) == parsed) then return id end
end

-- PHP puts "_" for dots, blanks and a lone bracket.
local function folded(name)
  return (name:lower():gsub("[%. +%[]", "_"))
end

-- A name in other letters, encoded or with an index is the same to some receivers (isAlike in src/routing/fields.ts).
local function is_alike(field, name)
  local text = field:gsub("^[ +]+", ""):gsub("[ +]+$", "")
  return folded(text) == folded(name) or folded(text:match("^[^%[]*")) == folded(name)
end

local function from_form(body, name)
  if body:find("[;%z]") then return end
  local id
  for pair in body:gmatch("[^&]+") do
    local field, value = pair:match("^([^=]*)=?(.*)$")
    if field:find("%%") then return end
    if is_alike(field, name) then
      if id or field ~= name then return end
      id = value
    end
  end
  return id and id:match("^[%w-]+$")
end

-- The type of the body: nil where something stands behind it by which receivers may read other letters.
local function kind_of(headers)
  if headers:getNumValues("content-type") ~= 1 or headers:get("content-encoding") then return end
  local kind, rest = headers:get("content-type"):lower():match("^([^;, ]*)(.*)$")
  if rest == "" or rest:find('^ *; *charset="?utf%-8"?$') then return kind end
end

function envoy_on_request(handle)
  local context = handle:filterContext()
  local rule, names, field = context:get("rule"), context:get("json"), context:get("form")
  local key = handle:headers():get("x-zonegate-route")
  if not key or not key:find("!body$") then return end
  local buffer = handle:body()
  if not buffer or buffer:length() > LENGTH_MAX then return end
  local body = buffer:getBytes(0, buffer:length())
  local headers = handle:headers() -- those from before body() are out of use
  local kind = kind_of(headers)
  if not kind then return end
  local id
  if names and (kind == "application/json" or kind:find("^application/[a-z0-9.+-]+%+json$")) then
    local parsed = handle:streamInfo():dynamicMetadata():get("zonegate.id")
    id = from_json(body, names, parsed and parsed[rule])
  elseif field and kind == "application/x-www-form-urlencoded" then
    id = from_form(body, field)
  end
  if not id then return end
  headers:replace("x-zonegate-route", (key:gsub("!body$", "/" .. id)))
  handle:clearRouteCache()
end
