{{- define "platform.selectorLabels" -}}
app.kubernetes.io/name: platform
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Called with (dict "root" $ "component" "redis"). */}}
{{- define "platform.labels" -}}
{{ include "platform.selectorLabels" .root }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: sessionctl
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{/*
Whether this release may render an object that outlives it: "true" when there is none, or when it is this release's own.
Somebody else's (also an earlier release's, kept at its uninstall) is used as it is: rendering it would fail the install.
Called with (dict "root" $ "object" <what lookup gave>).
*/}}
{{- define "platform.mine" -}}
{{- $annotations := dig "metadata" "annotations" (dict) .object -}}
{{- if not .object -}}
true
{{- else if and (eq (get $annotations "meta.helm.sh/release-name") .root.Release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") .root.Release.Namespace) -}}
true
{{- end -}}
{{- end }}

{{- define "platform.redis.secretName" -}}
{{- if .Values.redis.enabled -}}
sessionctl-redis
{{- else -}}
{{ .Values.externalRedis.existingSecret }}
{{- end -}}
{{- end }}

{{- define "platform.redis.image" -}}
{{- with .Values.redis.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* One data key of a Secret as lookup gave it, decoded; empty when it is not there. Called with (list $secret "key"). */}}
{{- define "platform.secretValue" -}}
{{- dig "data" (index . 1) "" (index . 0) | b64dec -}}
{{- end }}

{{- define "platform.manager.image" -}}
{{- with .Values.manager.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What a manager reads once, at its start. The chart's version is no part of it: a manager does not change with it. */}}
{{- define "platform.manager.config" -}}
{{- $redis := dict "own" .Values.redis.enabled "external" .Values.externalRedis -}}
{{- dict "config" .Values.config "profiles" .Values.profiles "sessions" .Values.sessionsNamespace.name "redis" $redis | toYaml -}}
{{- end }}

{{- define "platform.milliseconds" -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" . -1 -}}
{{- $factor := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) (regexFind "[a-z]+" .) -}}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int64) $factor) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* A duration in whole seconds, rounded up. */}}
{{- define "platform.seconds" -}}
{{- div (add (include "platform.milliseconds" . | int64) 999) 1000 -}}
{{- end }}

{{/* The router runs where there are managers to ask. */}}
{{- define "platform.router.enabled" -}}
{{- if and .Values.router.enabled .Values.manager.enabled -}}
true
{{- end -}}
{{- end }}

{{- define "platform.router.image" -}}
{{- with .Values.router.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What follows "vs-code-<uuid>." in an editor's host name: the domain without its port. */}}
{{- define "platform.hostname" -}}
{{- regexReplaceAll ":.*$" .Values.config.sessions.domain "" -}}
{{- end }}

{{/* Called with (list $ <annotations>): those, cert-manager's, and what the values add or change. */}}
{{- define "platform.ingress.annotations" -}}
{{- $ingress := (index . 0).Values.ingress -}}
{{- $issuer := $ingress.tls.issuer -}}
{{- $found := deepCopy (index . 1) -}}
{{- if $issuer.name -}}
{{- $_ := set $found (eq $issuer.kind "Issuer" | ternary "cert-manager.io/issuer" "cert-manager.io/cluster-issuer") $issuer.name -}}
{{- end -}}
{{- merge (deepCopy $ingress.annotations) $found | toYaml -}}
{{- end }}
