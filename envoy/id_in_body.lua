-- Reads the id in a request's body, for rules with `json` or `form` (docs/configuration.md), and puts it into the request's key.
-- If the body is long or not plain, the key stays without an id, and the processor decides.

-- In octets. Such a body takes a worker of Envoy a few milliseconds at worst.
local LENGTH_MAX = 16384

-- The position after the only quoted `name` in `text`, in any case; nil if there is none or a second one.
local function only_place(text, name)
  local quoted = '"' .. name:lower() .. '"'
  local first, last = text:find(quoted, 1, true)
  if first and not text:find(quoted, last, true) then return last + 1 end
end

-- The filter id_json has parsed the body, but it takes the last of two members with one name, and any form of a number. So each
-- name of the pointer must occur in the body once, and the id literally. Escapes are refused because they could spell a name, and
-- so are two letters that Go reads as "s" and "k": the long s and the Kelvin sign.
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

-- PHP replaces dots, blanks and a single bracket by "_".
local function folded(name)
  return (name:lower():gsub("[%. +%[]", "_"))
end

-- Some receivers treat a name in another case, encoded, or with an index as the same (isAlike in src/routing/fields.ts).
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

-- The type of the body; nil if it has a parameter that may make receivers read other characters.
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
  local headers = handle:headers() -- body() invalidates the headers from before
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
