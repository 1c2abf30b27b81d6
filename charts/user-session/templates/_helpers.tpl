{{/* Name of every object of the session. A Service name may not start with a digit, a UUID often does. */}}
{{- define "user-session.name" -}}
user-{{ .Release.Name }}
{{- end }}

{{/* What never changes over the life of a session: selectors and pod template use nothing else. */}}
{{- define "user-session.selectorLabels" -}}
app.kubernetes.io/name: user-session
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* A chart version in here would restart every awake pod at an upgrade. */}}
{{- define "user-session.podLabels" -}}
{{ include "user-session.selectorLabels" . }}
app.kubernetes.io/component: workspace
uuid: {{ .Release.Name | quote }}
{{- end }}

{{- define "user-session.labels" -}}
{{ include "user-session.podLabels" . }}
app.kubernetes.io/part-of: sessionctl
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
sessionctl.dev/tenant: {{ include "user-session.text" .Values.session.tenant }}
sessionctl.dev/user: {{ include "user-session.userHash" . | quote }}
{{- end }}

{{/* A user id is no label value; its hash is, and finds the sessions of a user. */}}
{{- define "user-session.userHash" -}}
{{ .Values.session.userId | sha256sum | trunc 40 }}
{{- end }}

{{/*
Foreign text as a YAML scalar that reads back byte for byte. JSON does it, except for three characters that JSON
leaves as they are and the YAML reader refuses.
*/}}
{{- define "user-session.text" -}}
{{ toJson . | replace "\ufeff" "\\ufeff" | replace "\ufffe" "\\ufffe" | replace "\uffff" "\\uffff" }}
{{- end }}

{{- define "user-session.annotations" -}}
sessionctl.dev/user-id: {{ include "user-session.text" .Values.session.userId }}
sessionctl.dev/profile: {{ include "user-session.text" .Values.session.profile }}
{{- with .Values.session.createdAt }}
sessionctl.dev/created-at: {{ include "user-session.text" . }}
{{- end }}
{{- end }}

{{- define "user-session.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The live replicas, 0 when there is no Deployment. The field must never disappear from the manifest: the API default 1
would then wake a sleeping session. A cluster's answer holds numbers as float64 or int64, hence `int`; `dig` and not
`default`, for which a live 0 would count as missing.
*/}}
{{- define "user-session.replicas" -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "user-session.name" .) | default dict -}}
{{ dig "spec" "replicas" 0 $live | int }}
{{- end }}

{{/* A program that a user's message drives must not find the key of another kind. */}}
{{- define "user-session.keySecret" -}}
{{- if eq .Values.agent.kind "openai" -}}
{{ .Values.agent.openai.apiKeySecret.name }}
{{- end -}}
{{- end }}

{{- define "user-session.probe" -}}
httpGet:
  path: /healthz
  port: agent
{{ toYaml . }}
{{- end }}

{{/* What programs of the user see is the same in both containers. */}}
{{- define "user-session.environment" -}}
- configMapRef:
    name: {{ include "user-session.name" . }}
{{- range .Values.envFromSecrets }}
- secretRef:
    name: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "user-session.folders" -}}
- name: workspace
  mountPath: /workspace
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "user-session.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}
