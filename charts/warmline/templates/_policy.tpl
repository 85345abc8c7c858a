{{/*
The rules of the admission policies, in CEL. The injector has the same rules in Rust (src/injector): the tests give both the
same pods and compare every field. CEL evaluates a variable when an expression first uses it.
*/}}

{{/* Excluded without a message: pods that have the sidecar already, and mirrors of a node's static pods. */}}
{{- define "warmline.policy.matchConditions" -}}
- name: has-no-sidecar
  expression: >-
    !object.spec.?initContainers.orValue([]).exists(c, c.name == "warmline" && c.?restartPolicy.orValue("") == "Always")
- name: is-no-mirror
  expression: >-
    !("kubernetes.io/config.mirror" in object.metadata.?annotations.orValue({}))
{{- end }}

{{- define "warmline.policy.pods" -}}
resourceRules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}
matchPolicy: Equivalent
{{- end }}

{{/* Selects pods whose own label asks for the sidecar. */}}
{{- define "warmline.policy.podAsked" -}}
namespaceSelector:
  matchExpressions:
    - {{- include "warmline.excludedNamespaces" . | nindent 6 }}
objectSelector:
  matchLabels: {warmline.dev/inject: "true"}
{{- end }}

{{/* Selects pods without such a label in namespaces whose label asks for the sidecar. */}}
{{- define "warmline.policy.namespaceAsked" -}}
namespaceSelector:
  matchLabels: {warmline.dev/inject: "true"}
  matchExpressions:
    - {{- include "warmline.excludedNamespaces" . | nindent 6 }}
objectSelector:
  matchExpressions:
    - {key: warmline.dev/inject, operator: NotIn, values: ["true", "false"]}
{{- end }}

{{/* The variables: `reasons` why a pod cannot have a sidecar, in the injector's words (empty if it can), and the sidecar's resources. */}}
{{- define "warmline.policy.variables" -}}
{{- $openshift := eq .Values.injection.platform "openshift" -}}
- name: annotations
  expression: object.metadata.?annotations.orValue({})
- name: initContainers
  expression: object.spec.?initContainers.orValue([])
- name: containers
  expression: variables.initContainers + object.spec.containers
- name: mountClashes
  expression: >-
    variables.containers.map(c, c.?volumeMounts.orValue([])
      .filter(m, m.mountPath.matches("^/(etc|run)/warmline(/|$)"))
      .map(m, c.name + " " + m.mountPath)).flatten()
# Mounts of the volumes that injection adds; a volume of the same name that the pod itself has may be mounted, except
# warmline-run.
- name: volumeClashes
  expression: >-
    variables.containers.map(c, c.?volumeMounts.orValue([])
      .filter(m, m.name == "warmline-run" || m.name in ["warmline-config", "warmline-identity", "warmline-trust"]
        && !object.spec.?volumes.orValue([]).exists(v, v.name == m.name))
      .map(m, c.name + " " + m.name)).flatten()
# The pod's own volumes that its containers fill; the sidecar is placed right after the init containers that may write
# them.
- name: filledVolumes
  expression: >-
    object.spec.?volumes.orValue([]).filter(v, v.name in ["warmline-config", "warmline-identity", "warmline-trust"]
      && (has(v.emptyDir) || has(v.ephemeral) || has(v.persistentVolumeClaim)))
- name: writers
  expression: >-
    lists.range(size(variables.initContainers)).filter(i, variables.initContainers[i].?volumeMounts.orValue([])
      .exists(m, !m.?readOnly.orValue(false) && variables.filledVolumes.exists(v, v.name == m.name)))
# Volumes that only containers fill, which start after the sidecar, so that it would wait for the files for ever. A
# volume that nothing writes is an error only for the configuration, because the sidecar cannot do without it.
- name: unfilled
  expression: >-
    ["warmline-config", "warmline-identity", "warmline-trust"].filter(name,
      variables.filledVolumes.exists(v, v.name == name && !has(v.persistentVolumeClaim))
      && (name == "warmline-config"
        || object.spec.containers.exists(c, c.?volumeMounts.orValue([]).exists(m, m.name == name && !m.?readOnly.orValue(false))))
      && !variables.initContainers.exists(c, c.?volumeMounts.orValue([]).exists(m, m.name == name && !m.?readOnly.orValue(false))))
- name: portClashes
  expression: >-
    variables.containers.map(c, c.?ports.orValue([])
      .map(p, p.containerPort in [13301, 13320, 13321] && p.?protocol.orValue("TCP") == "TCP"
        ? c.name + " " + string(p.containerPort)
        : (p.?name.orValue("") == "warmline-prom" ? c.name + " warmline-prom" : ""))
      .filter(clash, clash != "")).flatten()
- name: ownUsers
  expression: >-
    variables.containers.filter(c, c.?securityContext.?runAsUser.orValue(0) == 13301).map(c, c.name)
- name: known
  expression: >-
    ["config", "cpu-limit", "cpu-request", "log-level", "memory-limit", "memory-request"].map(name, "warmline.dev/" + name)
- name: unknown
  expression: >-
    variables.annotations.map(key, key).filter(key, key.startsWith("warmline.dev/") && !(key in variables.known)).sort()
- name: badAnnotations
  expression: >-
    {{- $name := "[a-z0-9]([-a-z0-9]*[a-z0-9])?" }}
    {{- $cpu := list "([1-9][0-9]{0,5}m|[1-9][0-9]{0,2}|[0-9]{1,3}[.][0-9]{0,2}[1-9])" "a quantity such as 50m or 0.5" }}
    {{- $memory := list "[1-9][0-9]{0,14}(Ki|Mi|Gi|k|M|G)?" "a quantity such as 64Mi" }}
    {{- $demands := dict "cpu-limit" $cpu "cpu-request" $cpu "memory-limit" $memory "memory-request" $memory
      "config" (list (printf "%s([.]%s)*" $name $name) "the name of a ConfigMap in the pod's namespace")
      "log-level" (list "(error|warn|info|debug|trace)" "error, warn, info, debug or trace") }}
    [
      {{- range $key, $demand := $demands }}
      !("warmline.dev/{{ $key }}" in variables.annotations)
        || variables.annotations["warmline.dev/{{ $key }}"].matches("^{{ index $demand 0 }}$")
        && size(variables.annotations["warmline.dev/{{ $key }}"]) <= 253
        ? "" : "the annotation warmline.dev/{{ $key }} must be {{ index $demand 1 }}",
      {{- end }}
    ].filter(reason, reason != "")
# The sidecar's resources. For a resource with a budget of the whole pod, the sidecar requests nothing.
- name: limited
  expression: >-
    ["cpu", "memory"].filter(r, object.spec.?resources.?limits[?r].hasValue())
- name: budgets
  expression: >-
    variables.limited + ["cpu", "memory"].filter(r, object.spec.?resources.?requests[?r].hasValue())
# A pod that is Guaranteed without the sidecar stays Guaranteed.
- name: guaranteed
  expression: >-
    size(variables.budgets) == 0 && variables.containers.all(c, ["cpu", "memory"].all(r,
      c.?resources.?limits[?r].hasValue()
      && quantity(c.?resources.?requests[?r].orValue(c.resources.limits[r])).compareTo(quantity(c.resources.limits[r])) == 0))
{{- range $name := list "cpu" "memory" }}
{{- $request := index $.Values.injection.resources.requests $name | toString }}
{{- $limit := index $.Values.injection.resources.limits $name | default "" | toString }}
- name: {{ $name }}Limit
  expression: >-
    variables.annotations[?"warmline.dev/{{ $name }}-limit"].orValue(variables.guaranteed
      ? variables.annotations[?"warmline.dev/{{ $name }}-request"].orValue({{ $limit | default "100m" | quote }})
      : ("{{ $name }}" in variables.limited ? "" : {{ $limit | quote }}))
- name: {{ $name }}Request
  expression: >-
    variables.guaranteed ? variables.{{ $name }}Limit
      : variables.annotations[?"warmline.dev/{{ $name }}-request"]
        .orValue("{{ $name }}" in variables.budgets ? "0" : {{ $request | quote }})
# In a Guaranteed pod, request and limit can differ only if annotations set both.
- name: {{ $name }}Asked
  expression: >-
    variables.guaranteed
      ? variables.annotations[?"warmline.dev/{{ $name }}-request"].orValue(variables.{{ $name }}Limit) : variables.{{ $name }}Request
- name: {{ $name }}Contradicts
  expression: >-
    size(variables.unknown) == 0 && size(variables.badAnnotations) == 0 && variables.{{ $name }}Limit != ""
      && quantity(variables.{{ $name }}Asked).isGreaterThan(quantity(variables.{{ $name }}Limit))
{{- end }}
- name: reasons
  expression: >-
    ([
      object.spec.?hostNetwork.orValue(false)
        ? "hostNetwork is set, so that loopback is the node's" : "",
      object.spec.?hostPID.orValue(false)
        ? "hostPID is set, so that processes of the node are in reach" : "",
      !object.spec.?shareProcessNamespace.orValue(false) ? "" :
      {{- if $openshift }}
        "shareProcessNamespace is set, and on this platform the sidecar has no user of its own, "
          + "so that other containers could read its key",
      {{- else }}
        object.spec.?securityContext.?runAsUser.orValue(0) == 13301
        ? "shareProcessNamespace is set and the pod runs as user 13301, which is the sidecar's, "
          + "so that other containers could read its key"
        : (size(variables.ownUsers) > 0
        ? "shareProcessNamespace is set and these run as user 13301, which is the sidecar's, so that they could read its key: "
          + variables.ownUsers.join(", ") : ""),
      {{- end }}
      object.spec.?os.?name.orValue("") == "windows" || object.spec.?nodeSelector[?"kubernetes.io/os"].orValue("") == "windows"
        ? "the pod is for Windows, and the sidecar for Linux" : "",
      variables.containers.exists(c, c.name == "warmline")
        ? "the container name warmline is the sidecar's, and the pod has another container of that name" : "",
      object.spec.?volumes.orValue([]).exists(v, v.name == "warmline-run")
        ? "the volume warmline-run is the sidecar's, and the pod has another volume of that name" : "",
      size(variables.mountClashes) > 0
        ? "the mount paths /etc/warmline and /run/warmline are the sidecar's, and others mount there: "
          + variables.mountClashes.join(", ") : "",
      size(variables.volumeClashes) > 0
        ? "the volumes warmline-config, warmline-identity, warmline-trust and warmline-run are the sidecar's, and others mount them: "
          + variables.volumeClashes.join(", ") : "",
      size(variables.unfilled) > 0
        ? "these volumes begin empty, and no init container fills them before the sidecar starts (let one write them, with "
          + "restartPolicy: Always if it goes on writing): " + variables.unfilled.join(", ") : "",
      size(variables.portClashes) > 0
        ? "the ports 13301, 13320, 13321 and the port name warmline-prom are the sidecar's, and others have them: "
          + variables.portClashes.join(", ") : "",
      size(variables.unknown) > 0
        ? "unknown annotations: " + (size(variables.unknown) > 8
          ? variables.unknown.slice(0, 8).join(", ") + " and " + string(size(variables.unknown) - 8) + " more"
          : variables.unknown.join(", ")) + " (known: " + variables.known.join(", ") + ")" : ""
    ] + variables.badAnnotations + [
      {{- range $index, $name := list "cpu" "memory" }}
      variables.{{ $name }}Contradicts
        ? "the sidecar's {{ $name }} request " + variables.{{ $name }}Asked + " is above its limit " + variables.{{ $name }}Limit + ", and the annotations "
          + "warmline.dev/{{ $name }}-request and warmline.dev/{{ $name }}-limit set them" : ""
        {{- if not $index }},{{ end }}
      {{- end }}
    ]).filter(reason, reason != "")
{{- end }}

{{/*
The changes of injection to a pod. Absent lists are added empty, and their elements one by one: a patch whose value is a list of
typed objects crashes the request in Kubernetes 1.36.3. The sidecar is added last, so that no index changes before it is used.
*/}}
{{- define "warmline.policy.mutations" -}}
{{- $pod := "Object.spec.initContainers" -}}
- patchType: JSONPatch
  jsonPatch:
    expression: >-
      size(variables.reasons) > 0 ? [] :
      (has(object.metadata.labels) ? [] : [JSONPatch{op: "add", path: "/metadata/labels", value: {}}])
      + ("warmline.dev/injected" in object.metadata.?labels.orValue({}) ? [] : [
        JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("warmline.dev/injected"), value: "true"}])
      + (has(object.metadata.annotations) ? [] : [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}])
      + {
        "warmline.dev/version": {{ .Chart.AppVersion | quote }},
        {{- if .Values.injection.prometheusAnnotations }}
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "13320",
        "prometheus.io/path": "/metrics",
        {{- end }}
        "kubectl.kubernetes.io/default-container": string(object.spec.containers[0].name)
      }.transformList(key, value, !(key in variables.annotations), JSONPatch{
        op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey(key), value: value})
      {{- range $list := list "initContainers" "containers" }}
      + lists.range(size(object.spec.?{{ $list }}.orValue([])))
        .filter(i, !object.spec.{{ $list }}[i].?envFrom.orValue([]).exists(e, e.?configMapRef.?name.orValue("") == "warmline-urls"))
        .map(i, (has(object.spec.{{ $list }}[i].envFrom) ? []
          : [JSONPatch{op: "add", path: "/spec/{{ $list }}/" + string(i) + "/envFrom", value: []}]) + [
          JSONPatch{op: "add", path: "/spec/{{ $list }}/" + string(i) + "/envFrom/0", value:
            Object.spec.containers.envFrom{configMapRef:
              Object.spec.containers.envFrom.configMapRef{name: "warmline-urls", optional: true}}}]).flatten()
      {{- end }}
      + (has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes", value: []}])
      + [
        Object.spec.volumes{name: "warmline-config", configMap: Object.spec.volumes.configMap{
          name: variables.config}},
        Object.spec.volumes{name: "warmline-identity", secret: Object.spec.volumes.secret{
          secretName: "warmline-identity", optional: true}},
        Object.spec.volumes{name: "warmline-trust", configMap: Object.spec.volumes.configMap{
          name: "warmline-trust", optional: true}},
        Object.spec.volumes{name: "warmline-run", emptyDir: Object.spec.volumes.emptyDir{
          medium: "Memory", sizeLimit: "4Mi"}}
      ].filter(ours, !object.spec.?volumes.orValue([]).exists(v, v.name == ours.name))
        .map(ours, JSONPatch{op: "add", path: "/spec/volumes/-", value: ours})
      + (has(object.spec.initContainers) ? [] : [JSONPatch{op: "add", path: "/spec/initContainers", value: []}])
      + [JSONPatch{op: "add", path: "/spec/initContainers/" + string(variables.place), value: Object.spec.initContainers{
        name: "warmline",
        image: {{ include "warmline.image" . | quote }},
        imagePullPolicy: {{ .Values.image.pullPolicy | quote }},
        args: ["run", "--confined", "--config", "/etc/warmline/config/config.yaml"]
          {{- if eq .Values.configSource "watch" }}
          + (variables.watched == "" ? [] : ["--configmap", string(variables.watched)])
          {{- end }}
          + ["--keep", "/run/warmline"]
          + ("warmline.dev/log-level" in variables.annotations
            ? ["--log-level", string(variables.annotations["warmline.dev/log-level"])] : []),
        restartPolicy: "Always",
        ports: [{{ $pod }}.ports{name: "warmline-prom", containerPort: 13320, protocol: "TCP"}],
        {{- range $probe := list (list "startup" 1 120) (list "ready" 2 2) (list "live" 10 3) }}
        {{- $field := get (dict "startup" "startupProbe" "ready" "readinessProbe" "live" "livenessProbe") (index $probe 0) }}
        {{ $field }}: {{ $pod }}.{{ $field }}{
          httpGet: {{ $pod }}.{{ $field }}.httpGet{path: "/{{ index $probe 0 }}z", port: "warmline-prom"},
          periodSeconds: {{ index $probe 1 }}, failureThreshold: {{ index $probe 2 }}},
        {{- end }}
        resources: {{ $pod }}.resources{
          requests: {"cpu": variables.cpuRequest, "memory": variables.memoryRequest},
          limits: {"cpu": variables.cpuLimit, "memory": variables.memoryLimit}
            .transformMap(name, amount, amount != "", amount)},
        securityContext: {{ $pod }}.securityContext{
          allowPrivilegeEscalation: false,
          capabilities: {{ $pod }}.securityContext.capabilities{drop: ["ALL"]},
          readOnlyRootFilesystem: true,
          runAsNonRoot: true,
          {{- if ne .Values.injection.platform "openshift" }}
          runAsUser: 13301,
          runAsGroup: 13301,
          {{- end }}
          seccompProfile: {{ $pod }}.securityContext.seccompProfile{type: "RuntimeDefault"}},
        terminationMessagePolicy: "FallbackToLogsOnError",
        volumeMounts: [
          {{- range $name := list "config" "identity" "trust" }}
          {{ $pod }}.volumeMounts{name: "warmline-{{ $name }}", mountPath: "/etc/warmline/{{ $name }}", readOnly: true},
          {{- end }}
          {{ $pod }}.volumeMounts{name: "warmline-run", mountPath: "/run/warmline"}]
      }}]
{{- end }}
