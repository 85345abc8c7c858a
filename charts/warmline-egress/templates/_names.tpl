{{/* "true" unless `enabled` is false: then nothing is rendered, even if an umbrella chart has no `condition` for this chart. */}}
{{- define "warmline-egress.enabled" -}}
{{- if ne (toString .Values.enabled) "false" }}true{{ end }}
{{- end }}

{{- define "warmline-egress.labels" -}}
app.kubernetes.io/name: warmline-egress
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: warmline
{{- end }}

{{- define "warmline-egress.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The variable with an upstream's URL: payments-eu -> WARMLINE_PAYMENTS_EU_URL */}}
{{- define "warmline-egress.variable" -}}WARMLINE_{{ .name | upper | replace "-" "_" }}_URL{{- end }}

{{/* Checks that the schema cannot express: each upstream has a port, and names, ports and hosts are unique. */}}
{{- define "warmline-egress.validate" -}}
{{- $monitors := or .Values.podMonitor.enabled .Values.prometheusRule.enabled .Values.dashboard.enabled -}}
{{- if not (or .Values.upstreams $monitors (not .Values.configMap.create)) -}}
  {{- fail (printf "upstreams is empty: without one there is no ConfigMap `warmline`, and pods that ask for a sidecar in namespace %s would wait in Init for it. Write where they call, such as\n\n  upstreams:\n    - name: payments\n      port: 13401\n      endpoints: [\"api.payments.example:443\"]\n\nor, where that ConfigMap comes from elsewhere, configMap: {create: false}" .Release.Namespace) -}}
{{- end -}}
{{- if and .Values.upstreams (not .Values.configMap.create) -}}
  {{- fail "upstreams are given, and configMap.create is false: the ConfigMap `warmline` that comes from elsewhere has the upstreams; leave out one of the two" -}}
{{- end -}}
{{- $ports := dict -}}
{{- $names := dict -}}
{{- $hosts := dict -}}
{{- range $index, $upstream := .Values.upstreams -}}
  {{- $path := printf "upstreams[%d] (%s)" $index $upstream.name -}}
  {{- if not $upstream.port -}}
    {{- fail (printf "%s: port is missing: give it a loopback port of its own, such as %d; applications find it in %s"
        $path (add 13401 $index) (include "warmline-egress.variable" $upstream)) -}}
  {{- end -}}
  {{- $port := toString $upstream.port -}}
  {{- if has $port (list "13301" "13320" "13321") -}}
    {{- fail (printf "%s: port %s is one of the sidecar's own (13301, 13320, 13321): take another, from 13401 on" $path $port) -}}
  {{- end -}}
  {{- with get $ports $port -}}
    {{- fail (printf "%s: port %s is already that of %s: give each upstream a port of its own" $path $port .) -}}
  {{- end -}}
  {{- with get $names $upstream.name -}}
    {{- fail (printf "%s: the name is already that of %s: names are unique" $path .) -}}
  {{- end -}}
  {{- range $host := $upstream.hosts | default (list (first $upstream.endpoints | default "" | splitList ":" | initial | join ":")) -}}
    {{- with get $hosts (lower $host) -}}
      {{- fail (printf "%s: the host %s already leads to %s: write `hosts`, which say whose Host leads where" $path $host .) -}}
    {{- end -}}
    {{- $_ := set $hosts (lower $host) $path -}}
  {{- end -}}
  {{- $_ := set $ports $port $path -}}
  {{- $_ := set $names $upstream.name $path -}}
{{- end -}}
{{- range $index, $listener := dig "listeners" list (.Values.config | default dict) -}}
  {{- range $bind := $listener.bind -}}
    {{- with get $ports (regexFind "[0-9]+$" $bind) -}}
      {{- fail (printf "config.listeners[%d].bind: the port of %s is already that of %s: take another" $index $bind .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}
