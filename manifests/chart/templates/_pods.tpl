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
{{- range $key := list "affinity" "nodeSelector" "tolerations" "topologySpreadConstraints" -}}
  {{- with get $values $key }}{{ $_ := set $spec $key . }}{{ end -}}
{{- end -}}
{{- with $values.resources }}{{ $_ := set $container "resources" . }}{{ end -}}
{{- end -}}

{{/* The image's reference, by digest if there is one. Argument: the root context. */}}
{{- define "ledgergate.image" -}}
{{- with .Values.image -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
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
{{- include "ledgergate.pod" (list $root $template.spec $values) -}}
{{- with $values.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end -}}
{{- $arguments := $container.args -}}
{{- if ne $root.Values.logFormat "text" }}{{ $arguments = concat $arguments (list "--log-format" $root.Values.logFormat) }}{{ end -}}
{{- with $values.allowedDatabaseHosts -}}
  {{- $arguments = concat $arguments (list "--allowed-database-hosts" (join "," .)) -}}
{{- end -}}
{{- $_ := set $container "args" (concat $arguments $values.extraArgs) -}}
{{- end -}}

{{/* A component's objects: its Deployment, Service and PodDisruptionBudget. Arguments: the root context, its name. */}}
{{- define "ledgergate.component" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $values := get $root.Values $name -}}
{{- $objects := list -}}
{{- range include "ledgergate.objects" (list $root (printf "base/%s.yaml" $name)) | fromYamlArray -}}
  {{- if eq .kind "Deployment" -}}
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
