{{/*
Annotations of an object that belongs to a hook, as YAML. helm runs it before it deletes the release. Argo CD, which
renders charts without a cluster and knows `helm.sh/hook: pre-delete` only in some versions, runs it after it has
deleted the Application's other objects (2.10 or newer). With helm's annotations as well, Argo CD would do both.
Arguments: the root context, the weight, by which helm orders the objects.
*/}}
{{- define "ledgergate.uninstall-hook" -}}
{{- $root := index . 0 -}}
{{- if include "ledgergate.sees-a-cluster" $root -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- else -}}
argocd.argoproj.io/hook: PostDelete
argocd.argoproj.io/hook-delete-policy: BeforeHookCreation,HookSucceeded
{{- end -}}
{{- end -}}

{{/*
The pod spec of a hook's Job, as YAML: the controller's, with its nodes, network, volumes and environment, but another command
and service account. Arguments: the root context, the container's name, the service account, the command's words, the values
`resources`, `nodeSelector` and `tolerations`, of which empty ones are the controller's (resources: the defaults).
*/}}
{{- define "ledgergate.hook-pod" -}}
{{- $root := index . 0 -}}
{{- $own := index . 4 -}}
{{- $controller := $root.Values.controller -}}
{{- $spec := (include "ledgergate.objects" (list $root "base/controller.yaml") | fromYamlArray | first).spec.template.spec -}}
{{- $container := first $spec.containers -}}
{{- range $key := list "ports" "env" "livenessProbe" "readinessProbe" }}{{ $_ := unset $container $key }}{{ end -}}
{{- range $key := list "affinity" "terminationGracePeriodSeconds" }}{{ $_ := unset $spec $key }}{{ end -}}
{{- $values := pick $controller "hostNetwork" "dnsPolicy" "extraEnv" "extraVolumes" "extraVolumeMounts" -}}
{{- $_ := set $values "resources" $own.resources -}}
{{- range $key := list "nodeSelector" "tolerations" -}}
  {{- $_ := set $values $key (get $own $key | default (get $controller $key)) -}}
{{- end -}}
{{- include "ledgergate.pod" (list $root $spec $values) -}}
{{- $_ := set $container "name" (index . 1) -}}
{{- $_ := set $container "args" (index . 3) -}}
{{- $_ := set $spec "serviceAccountName" (index . 2) -}}
{{- $_ := set $spec "restartPolicy" "Never" -}}
{{- toYaml $spec -}}
{{- end -}}
