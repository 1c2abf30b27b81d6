{{/* Each message names the key and the fix. What one key alone can break is the business of values.schema.json. */}}
{{- define "user-session.validate" -}}
{{- include "user-session.validate.name" . -}}
{{- include "user-session.validate.scaling" . -}}
{{- include "user-session.validate.agent" . -}}
{{- include "user-session.validate.env" . -}}
{{- include "user-session.validate.network" . -}}
{{- include "user-session.validate.volume" . -}}
{{- end }}

{{- define "user-session.validate.name" -}}
{{- if not (regexMatch "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$" .Release.Name) -}}
{{- fail (printf "release name %q is not a lower-case RFC 4122 version 4 UUID: use the session's UUID as release name (sessionctl create makes one)" .Release.Name) -}}
{{- end -}}
{{- end }}

{{- define "user-session.validate.scaling" -}}
{{- $polling := int .Values.scaling.pollingInterval -}}
{{- $least := add (mul 2 $polling) 2 -}}
{{- if lt (int64 .Values.scaling.cooldownPeriod) (int64 $least) -}}
{{- fail (printf "scaling.cooldownPeriod is %d: with scaling.pollingInterval %d it must be at least %d (2 * pollingInterval + 2), or KEDA may scale to 0 between two looks at the list" (int .Values.scaling.cooldownPeriod) $polling $least) -}}
{{- end -}}
{{- end }}

{{- define "user-session.validate.agent" -}}
{{- with .Values.agent -}}
{{- if and (eq .kind "command") (not .command) -}}
{{- fail "agent.kind is command, but agent.command names no program: write it as a list, for example [my-ai, --reply]" -}}
{{- end -}}
{{- range $key := list "baseUrl" "model" -}}
{{- if and (eq $.Values.agent.kind "openai") (not (index $.Values.agent.openai $key)) -}}
{{- fail (printf "agent.kind is openai, but agent.openai.%s is empty: set it, or choose another kind" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "user-session.validate.env" -}}
{{- range $name := keys .Values.env | sortAlpha -}}
{{- if or (has $name (list "UUID" "USER_ID" "TENANT" "PROFILE" "CREATED_AT" "WORKSPACE" "HOME")) (hasPrefix "SESSIONCTL_" $name) -}}
{{- fail (printf "env.%s is set by the chart: choose another name" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "user-session.validate.network" -}}
{{- range $key := list "allowCIDRs" "denyCIDRs" -}}
{{- range $cidr := index $.Values.network $key -}}
{{- if not (regexMatch "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/[0-9]{1,3}$" $cidr) -}}
{{- fail (printf "network.%s: %q is not an address range: write it as 203.0.113.0/24 or 2001:db8::/32" $key $cidr) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* An upgrade must never start a session on an empty volume. */}}
{{- define "user-session.validate.volume" -}}
{{- $name := include "user-session.name" . -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace $name | default dict -}}
{{- $mounted := false -}}
{{- range dig "spec" "template" "spec" "volumes" (list) $live -}}
{{- if eq (dig "persistentVolumeClaim" "claimName" "" .) $name -}}
{{- $mounted = true -}}
{{- end -}}
{{- end -}}
{{- if $mounted -}}
{{- if ne .Values.persistence.type "pvc" -}}
{{- fail (printf "persistence.type is %q, but this session has its files on the volume %s: keep persistence.type: pvc, or create a new session" .Values.persistence.type $name) -}}
{{- end -}}
{{- $claim := lookup "v1" "PersistentVolumeClaim" .Release.Namespace $name | default dict -}}
{{- if or (not $claim) (dig "metadata" "deletionTimestamp" "" $claim) -}}
{{- fail (printf "volume missing: PersistentVolumeClaim %s of namespace %s is gone or being deleted, and the session must not start on an empty one: restore the volume under this name, or delete the session" $name .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end }}
