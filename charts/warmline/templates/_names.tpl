{{/* The one name of everything that the injector consists of: it does not depend on the release. */}}
{{- define "warmline.injector" -}}warmline-injector{{- end }}

{{/* The Secret that cert-manager fills; `-tls` is the one that the injector fills. */}}
{{- define "warmline.certificateSecret" -}}{{ include "warmline.injector" . }}-certificate{{- end }}

{{/* Nothing is rendered with `enabled: false`, in an umbrella chart that has no `condition` for it, too. */}}
{{- define "warmline.enabled" -}}
{{- if ne (toString .Values.enabled) "false" }}true{{ end }}
{{- end }}

{{/* Whether the injector's pods are there: in webhook mode, and for the time of a switch from it. */}}
{{- define "warmline.webhookRuns" -}}
{{- if and (include "warmline.enabled" .) (or (eq .Values.injection.mode "webhook") .Values.injection.keepWebhook) }}true{{ end }}
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

{{/* A quantity as a number of thousandths, of those that the schema lets pass. */}}
{{- define "warmline.thousandths" -}}
{{- $suffix := regexFind "[A-Za-z]*$" . -}}
{{- $factor := get (dict "m" 1 "k" 1e6 "M" 1e9 "G" 1e12 "Ki" 1024e3 "Mi" 1048576e3 "Gi" 1073741824e3) $suffix | default 1000 -}}
{{- mulf (trimSuffix $suffix . | float64) $factor -}}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "warmline.validate" -}}
{{- $resources := .Values.injection.resources -}}
{{- range $name, $limit := $resources.limits -}}
  {{- $request := get $resources.requests $name | toString -}}
  {{- $limit = toString $limit -}}
  {{- if and $limit (gt (include "warmline.thousandths" $request | float64) (include "warmline.thousandths" $limit | float64)) -}}
    {{- fail (printf "injection.resources: the %s request %s is above the limit %s: ask for no more than is allowed" $name $request $limit) -}}
  {{- end -}}
{{- end -}}
{{- end }}
