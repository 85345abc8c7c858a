{{/*
rules/warmline.yaml, changed by the values: thresholds in their places, alerts for this namespace alone unless
`allNamespaces`, and the settings of single alerts in `prometheusRule.alerts`.
*/}}
{{- define "warmline-egress.rules" -}}
{{- $values := .Values.prometheusRule -}}
{{- $text := .Files.Get "rules/warmline.yaml" -}}
{{- range $name, $value := $values.thresholds -}}
  {{- $text = regexReplaceAll (printf "[0-9.]+ # %s\n" $name) $text (printf "%s\n" (toString $value)) -}}
{{- end -}}
{{- if not $values.allNamespaces -}}
  {{- $text = replace "namespace=~\".+\"" (printf "namespace=%q" .Release.Namespace) $text -}}
{{- end -}}
{{- with $values.documentation -}}
  {{- $text = replace "runbook_url: docs/" (printf "runbook_url: %s/" (trimSuffix "/" .)) $text -}}
{{- end -}}
{{- $groups := list -}}
{{- $known := dict -}}
{{- range (fromYaml $text).groups -}}
  {{- $rules := list -}}
  {{- range .rules -}}
    {{- $_ := set $known .alert true -}}
    {{- $wanted := get $values.alerts .alert | default dict -}}
    {{- if ne (get $wanted "enabled" | toString) "false" -}}
      {{- $labels := merge (dict "severity" ($wanted.severity | default .labels.severity)) $values.alertLabels .labels -}}
      {{- $for := get $wanted "for" | default (get . "for") -}}
      {{- $rules = append $rules (merge (dict "for" $for "labels" $labels) .) -}}
    {{- end -}}
  {{- end -}}
  {{- $groups = append $groups (dict "name" .name "rules" $rules) -}}
{{- end -}}
{{- range $name, $_ := $values.alerts -}}
  {{- if not (hasKey $known $name) -}}
    {{- fail (printf "prometheusRule.alerts.%s: there is no such alert; there are %s" $name (keys $known | sortAlpha | join ", ")) -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end }}
