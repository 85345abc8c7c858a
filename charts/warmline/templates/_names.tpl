{{/* The one name of everything that the injector consists of: it does not depend on the release. */}}
{{- define "warmline.injector" -}}warmline-injector{{- end }}

{{/* The Secret that cert-manager fills; `-tls` is the one that the injector fills. */}}
{{- define "warmline.certificateSecret" -}}{{ include "warmline.injector" . }}-certificate{{- end }}

{{/* Whether the injector's pods are there: in webhook mode, and for the time of a switch from it. */}}
{{- define "warmline.webhookRuns" -}}
{{- if or (eq .Values.injection.mode "webhook") .Values.injection.keepWebhook }}true{{ end }}
{{- end }}

{{- define "warmline.selector" -}}
app.kubernetes.io/name: warmline-injector
{{- end }}

{{- define "warmline.labels" -}}
{{ include "warmline.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: warmline
{{- end }}

{{- define "warmline.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* What PodSecurity `restricted` asks of a container. */}}
{{- define "warmline.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- if ne .Values.injection.platform "openshift" }}
runAsUser: 13301
runAsGroup: 13301
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Namespaces that are never injected, whatever their labels. */}}
{{- define "warmline.excludedNamespaces" -}}
key: kubernetes.io/metadata.name
operator: NotIn
values: [kube-system, kube-public, kube-node-lease]
{{- end }}
