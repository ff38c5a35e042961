{{- /* The name of the objects. 40 characters leave room for the longest suffix. */ -}}
{{- define "zonegate.name" -}}
{{- $name := contains "zonegate" .Release.Name | ternary .Release.Name (printf "%s-zonegate" .Release.Name) -}}
{{- $name = .Values.fullnameOverride | default $name | trunc 40 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}{{ fail (printf "fullnameOverride: %q can't be the name of a Service: set lower-case letters, digits and hyphens, with a letter first" $name) }}{{ end -}}
{{- $name -}}
{{- end -}}

{{- define "zonegate.selector" -}}
app.kubernetes.io/name: zonegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "zonegate.labels" -}}
{{ include "zonegate.selector" . }}
app.kubernetes.io/part-of: zonegate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "zonegate.metadata" -}}
name: {{ include "zonegate.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "zonegate.labels" . | nindent 2 }}
{{- end -}}

{{- /* A file of the chart, as text. Takes a list: the root context and the path below files/. */ -}}
{{- define "zonegate.file" -}}
{{- $text := (first .).Files.Get (printf "files/%s" (last .)) -}}
{{- if not $text }}{{ fail (printf "the chart lacks files/%s: use a checkout that keeps symbolic links, or a packed chart" (last .)) }}{{ end -}}
{{- $text -}}
{{- end -}}

{{- /*
A manifest of deploy/kubernetes with this release's metadata, as YAML. Takes a list: the root context, the file and the
manifest's kind. The templates set only what the values change, so the chart and the kustomization can't drift apart.
*/ -}}
{{- define "zonegate.manifest" -}}
{{- $root := first . -}}
{{- $kind := last . -}}
{{- range splitList "\n---\n" (include "zonegate.file" (list $root (printf "kubernetes/%s" (index . 1)))) -}}
{{- $manifest := fromYaml . -}}
{{- if eq $manifest.kind $kind -}}
{{- toYaml (set $manifest "metadata" (include "zonegate.metadata" $root | fromYaml)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A file of envoy/, or the value that replaces it. Takes a list: the root context and the file's name. */ -}}
{{- define "zonegate.envoyFile" -}}
{{- $root := first . -}}
{{- get $root.Values.envoy.files (last .) | default (include "zonegate.file" (list $root (printf "envoy/%s" (last .)))) -}}
{{- end -}}

{{- /* The files that are read once, when a container starts; a change of one must replace the pods. */ -}}
{{- define "zonegate.bootstrap" -}}
{{- range list "envoy.yaml" "id_in_body.lua" "refusal-log-rate.yaml" "listener-tls-certificate.yaml" }}
{{ . }}: {{ include "zonegate.envoyFile" (list $ .) | toJson }}
{{- end }}
{{- end -}}
