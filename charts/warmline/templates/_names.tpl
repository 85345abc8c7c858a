{{/* The name of all of the injector's objects, which does not depend on the release. */}}
{{- define "warmline.injector" -}}warmline-injector{{- end }}

{{/* The name of the Secret that cert-manager fills; the injector fills another one, with `-tls`. */}}
{{- define "warmline.certificateSecret" -}}{{ include "warmline.injector" . }}-certificate{{- end }}

{{/* "true" unless `enabled` is false: then nothing is rendered, even if an umbrella chart has no `condition` for this chart. */}}
{{- define "warmline.enabled" -}}
{{- if ne (toString .Values.enabled) "false" }}true{{ end }}
{{- end }}

{{/* "true" if the injector's pods run: in webhook mode, and during a switch to policy mode. */}}
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

{{/* The security context that PodSecurity `restricted` demands of a container. */}}
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

{{/* A label selector's expression that excludes the namespaces that are never injected, whatever their labels. */}}
{{- define "warmline.excludedNamespaces" -}}
key: kubernetes.io/metadata.name
operator: NotIn
values: [kube-system, kube-public, kube-node-lease]
{{- end }}

{{/* A quantity as a number of thousandths; knows the suffixes that the schema allows. */}}
{{- define "warmline.thousandths" -}}
{{- $suffix := regexFind "[A-Za-z]*$" . -}}
{{- $factor := get (dict "m" 1 "k" 1e6 "M" 1e9 "G" 1e12 "Ki" 1024e3 "Mi" 1048576e3 "Gi" 1073741824e3) $suffix | default 1000 -}}
{{- mulf (trimSuffix $suffix . | float64) $factor -}}
{{- end }}

{{/* Checks that the schema cannot express: no request above its limit. */}}
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
