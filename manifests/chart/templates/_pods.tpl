{{/* Applies the values to a pod spec. Arguments: the root context, the spec, the component's values. */}}
{{- define "ledgergate.pod" -}}
{{- $root := index . 0 -}}
{{- $spec := index . 1 -}}
{{- $values := index . 2 -}}
{{- $container := first $spec.containers -}}
{{- $_ := set $container "image" (include "ledgergate.image" $root) -}}
{{- with $root.Values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end -}}
{{- with $root.Values.imagePullSecrets }}{{ $_ := set $spec "imagePullSecrets" . }}{{ end -}}
{{- $_ := set $spec "priorityClassName" $root.Values.priorityClassName -}}
{{- if not $root.Values.priorityClassName }}{{ $_ := unset $spec "priorityClassName" }}{{ end -}}
{{- range $key := list "affinity" "nodeSelector" "tolerations" "topologySpreadConstraints" "dnsPolicy" -}}
  {{- with get $values $key }}{{ $_ := set $spec $key . }}{{ end -}}
{{- end -}}
{{- if $values.hostNetwork -}}
  {{- $_ := set $spec "hostNetwork" true -}}
  {{- $_ := set $spec "dnsPolicy" ($values.dnsPolicy | default "ClusterFirstWithHostNet") -}}
{{- end -}}
{{- with $values.resources }}{{ $_ := set $container "resources" . }}{{ end -}}
{{- with $values.extraEnv }}{{ $_ := set $container "env" (concat ($container.env | default list) .) }}{{ end -}}
{{- with $values.extraVolumes }}{{ $_ := set $spec "volumes" (concat $spec.volumes .) }}{{ end -}}
{{- with $values.extraVolumeMounts }}{{ $_ := set $container "volumeMounts" (concat $container.volumeMounts .) }}{{ end -}}
{{- if not $root.Values.fixedUser -}}
  {{- $_ := set $spec "securityContext" (omit $spec.securityContext "runAsUser" "runAsGroup" "fsGroup") -}}
{{- end -}}
{{- $_ := mergeOverwrite $spec.securityContext $root.Values.podSecurityContext -}}
{{- $_ := mergeOverwrite $container.securityContext $root.Values.securityContext -}}
{{- end -}}

{{/*
The image's reference, by digest if there is one. A tag of digits that `--set` or a file gives is a number.
Argument: the root context.
*/}}
{{- define "ledgergate.image" -}}
{{- $registry := dig "imageRegistry" "" (.Values.global | default dict) | default .Values.image.registry -}}
{{- with .Values.image -}}
{{- $tag := .tag -}}
{{- if not (kindIs "string" $tag) }}{{ $tag = int64 $tag | toString }}{{ end -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ $tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Applies the values to a Deployment. Arguments: the root context, the Deployment, the component's values. */}}
{{- define "ledgergate.deployment" -}}
{{- $root := index . 0 -}}
{{- $deployment := index . 1 -}}
{{- $values := index . 2 -}}
{{- $template := $deployment.spec.template -}}
{{- $container := first $template.spec.containers -}}
{{- $_ := set $deployment.spec "replicas" ($values.replicas | int) -}}
{{- $_ := set $deployment.spec "revisionHistoryLimit" ($root.Values.revisionHistoryLimit | int) -}}
{{- include "ledgergate.pod" (list $root $template.spec $values) -}}
{{- with $values.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end -}}
{{- $_ := set $template.metadata "labels" (mergeOverwrite (dict) $values.podLabels $template.metadata.labels) -}}
{{- $arguments := include "ledgergate.arguments" (list $container $values.ports) | fromYamlArray -}}
{{- if ne $root.Values.logFormat "text" }}{{ $arguments = concat $arguments (list "--log-format" $root.Values.logFormat) }}{{ end -}}
{{- with $values.allowedDatabaseHosts -}}
  {{- $arguments = concat $arguments (list "--allowed-database-hosts" (join "," .)) -}}
{{- end -}}
{{- if $root.Values.metrics.auth.enabled }}{{ $arguments = append $arguments "--metrics-auth" }}{{ end -}}
{{- $_ := set $container "args" (concat $arguments $values.extraArgs) -}}
{{- end -}}

{{/*
The container's arguments, as a YAML list, with the port numbers of the values; its `ports` get the same numbers.
Arguments: the container, the port numbers by name.
*/}}
{{- define "ledgergate.arguments" -}}
{{- $container := index . 0 -}}
{{- $addresses := dict -}}
{{- range $port := $container.ports -}}
  {{- $number := get (index $ 1) $port.name | int -}}
  {{- $_ := set $addresses (printf ":%v" ($port.containerPort | int)) (printf ":%d" $number) -}}
  {{- $_ := set $port "containerPort" $number -}}
{{- end -}}
{{- $arguments := list -}}
{{- range $container.args }}{{ $arguments = append $arguments (get $addresses . | default .) }}{{ end -}}
{{- toYaml $arguments -}}
{{- end -}}

{{/* A component's objects: its Deployment, Service and PodDisruptionBudget. Arguments: the root context, its name. */}}
{{- define "ledgergate.component" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $values := get $root.Values $name -}}
{{- $objects := list -}}
{{- range include "ledgergate.objects" (list $root (printf "base/%s.yaml" $name)) | fromYamlArray -}}
  {{- if eq .kind "Deployment" -}}
    {{- if eq $name "controller" -}}
      {{- include "ledgergate.registries" (list $root.Values.images .spec.template.spec) -}}
    {{- end -}}
    {{- include "ledgergate.deployment" (list $root . $values) -}}
    {{- if eq $root.Values.certificates.manager "cert-manager" -}}
      {{- include "ledgergate.certificates" (list $name .spec.template.spec) -}}
    {{- end -}}
    {{- $objects = append $objects . -}}
  {{- else if eq .kind "PodDisruptionBudget" -}}
    {{- if gt (int $values.replicas) 1 -}}
      {{- $_ := set .spec "minAvailable" $values.minAvailable -}}
      {{- $objects = append $objects . -}}
    {{- end -}}
  {{- else -}}
    {{- $objects = append $objects . -}}
  {{- end -}}
{{- end -}}
{{- include "ledgergate.documents" $objects -}}
{{- end -}}

{{/* Makes a component use cert-manager's certificate. Arguments: its name, its pod spec. */}}
{{- define "ledgergate.certificates" -}}
{{- $spec := index . 1 -}}
{{- $container := first $spec.containers -}}
{{- if eq (index . 0) "webhook" -}}
  {{- $files := list "--tls-cert-file" "/etc/ledgergate/tls/tls.crt" "--tls-key-file" "/etc/ledgergate/tls/tls.key" -}}
  {{- $_ := set $container "args" (concat $container.args $files) -}}
  {{- $mount := dict "name" "tls" "mountPath" "/etc/ledgergate/tls" "readOnly" true -}}
  {{- $_ := set $container "volumeMounts" (append $container.volumeMounts $mount) -}}
  {{- $secret := dict "name" "tls" "secret" (dict "secretName" "ledgergate-webhook-tls") -}}
  {{- $_ := set $spec "volumes" (append $spec.volumes $secret) -}}
{{- else -}}
  {{- $_ := set $container "args" (concat $container.args (list "--certificates" "external")) -}}
{{- end -}}
{{- end -}}

{{/* Sets the flags, mounts and variables for reading registries. Arguments: the values `images`, the pod's spec. */}}
{{- define "ledgergate.registries" -}}
{{- $images := index . 0 -}}
{{- $spec := index . 1 -}}
{{- $container := first $spec.containers -}}
{{- $flags := list -}}
{{- range $images.registries }}{{ $flags = concat $flags (list "--registry" .) }}{{ end -}}
{{- range $images.plainHttp }}{{ $flags = concat $flags (list "--registry-plain-http" .) }}{{ end -}}
{{- range $images.mirrors }}{{ $flags = concat $flags (list "--registry-mirror" (printf "%s=%s" .registry .mirror)) }}{{ end -}}
{{- range $images.tokenHosts }}{{ $flags = concat $flags (list "--registry-token-host" (printf "%s=%s" .registry .host)) }}{{ end -}}
{{- range $images.allowedNetworks }}{{ $flags = concat $flags (list "--registry-allow-network" .) }}{{ end -}}
{{- range $images.refusedNetworks }}{{ $flags = concat $flags (list "--registry-refuse-network" .) }}{{ end -}}
{{- if $images.pullSecret -}}
  {{- $flags = concat $flags (list "--registry-config" "/etc/ledgergate/registries/.dockerconfigjson") -}}
  {{- $mount := dict "name" "registries" "mountPath" "/etc/ledgergate/registries" "readOnly" true -}}
  {{- $_ := set $container "volumeMounts" (append $container.volumeMounts $mount) -}}
  {{- $volume := dict "name" "registries" "secret" (dict "secretName" $images.pullSecret) -}}
  {{- $_ := set $spec "volumes" (append $spec.volumes $volume) -}}
{{- end -}}
{{- if $images.caConfigMap -}}
  {{- $flags = concat $flags (list "--registry-ca-file" "/etc/ledgergate/registry-ca/ca.crt") -}}
  {{- $mount := dict "name" "registry-ca" "mountPath" "/etc/ledgergate/registry-ca" "readOnly" true -}}
  {{- $_ := set $container "volumeMounts" (append $container.volumeMounts $mount) -}}
  {{- $volume := dict "name" "registry-ca" "configMap" (dict "name" $images.caConfigMap) -}}
  {{- $_ := set $spec "volumes" (append $spec.volumes $volume) -}}
{{- end -}}
{{- range $name, $value := $images.proxy -}}
  {{- $_ := set $container "env" (append $container.env (dict "name" $name "value" $value)) -}}
{{- end -}}
{{- $_ := set $container "args" (concat $container.args $flags) -}}
{{- end -}}
