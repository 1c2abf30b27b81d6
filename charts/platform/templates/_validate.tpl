{{/* Each message names the key and the fix. What one key alone can break is the business of values.schema.json. */}}
{{- define "platform.validate" -}}
{{- include "platform.validate.redis" . -}}
{{- include "platform.validate.namespace" . -}}
{{- include "platform.validate.scaling" . -}}
{{- include "platform.validate.reconcile" . -}}
{{- include "platform.validate.sessionValues" . -}}
{{- include "platform.validate.ingress" . -}}
{{- end }}

{{- define "platform.validate.redis" -}}
{{- if and .Values.redis.enabled .Values.externalRedis.host -}}
{{- fail "redis.enabled and externalRedis.host are both set: use one Redis, with redis.enabled: false for the external one or an empty externalRedis.host for the first-party one" -}}
{{- end -}}
{{- if not .Values.redis.enabled -}}
{{- if not .Values.externalRedis.host -}}
{{- fail "there is no Redis: set redis.enabled: true, or externalRedis.host and externalRedis.existingSecret" -}}
{{- end -}}
{{- if not .Values.externalRedis.existingSecret -}}
{{- fail "externalRedis.existingSecret is empty: name a Secret of the release's namespace with the keys username, password, keda-username and keda-password" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "platform.validate.namespace" -}}
{{- if eq .Values.sessionsNamespace.name .Release.Namespace -}}
{{- fail (printf "sessionsNamespace.name is %q, the namespace of this release: choose another one, the sessions must not share it with the platform" .Release.Namespace) -}}
{{- end -}}
{{- if and .Values.keda.enabled (ne .Values.keda.watchNamespace .Values.sessionsNamespace.name) -}}
{{- fail (printf "keda.watchNamespace is %q: set it to %q, the value of sessionsNamespace.name" .Values.keda.watchNamespace .Values.sessionsNamespace.name) -}}
{{- end -}}
{{- end }}

{{- define "platform.validate.scaling" -}}
{{- $polling := int .Values.config.scaling.pollingInterval -}}
{{- $least := add (mul 2 $polling) 2 -}}
{{- if lt (int64 .Values.config.scaling.cooldownPeriod) (int64 $least) -}}
{{- fail (printf "config.scaling.cooldownPeriod is %d: with config.scaling.pollingInterval %d it must be at least %d (2 * pollingInterval + 2)" (int .Values.config.scaling.cooldownPeriod) $polling $least) -}}
{{- end -}}
{{- end }}

{{- define "platform.validate.reconcile" -}}
{{- with .Values.config -}}
{{- if le (include "platform.milliseconds" .reconcile.grace | int64) (include "platform.milliseconds" .helm.timeout | int64) -}}
{{- fail (printf "config.reconcile.grace is %s: it must be longer than config.helm.timeout, %s, or installs under way would be undone" .reconcile.grace .helm.timeout) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "platform.validate.sessionValues" -}}
{{- range $key := list "session" "agent" "redis" "platform" "scaling" -}}
{{- if hasKey $.Values.config.sessions.values $key -}}
{{- fail (printf "config.sessions.values.%s is filled in by sessionctl for each session: remove it" $key) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "platform.validate.ingress" -}}
{{- if and .Values.ingress.tls.secretName .Values.ingress.tls.issuer.name -}}
{{- fail "ingress.tls.secretName and ingress.tls.issuer.name are both set: use one, an issuer makes Secrets of its own" -}}
{{- end -}}
{{- end }}
