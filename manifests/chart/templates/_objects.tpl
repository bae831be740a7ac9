{{/*
The objects of one file of files/, as a YAML list, with this release's namespace and ledgergate's labels.

Each manifest exists once, in files/, because a chart cannot read files outside its own directory. The kustomize
directories (manifests/base and others) list those of files/ as resources. The templates only apply the values.

Arguments: the root context, the file's path in files/.
*/}}
{{- define "ledgergate.objects" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $excluded := concat (list $root.Release.Namespace "kube-system") $root.Values.admission.excludedNamespaces -}}
{{- $text := $root.Files.Get (printf "files/%s" $name)
  | required (printf "files/%s is missing from the chart" $name)
  | replace "namespace: ledgergate" (printf "namespace: %s" $root.Release.Namespace)
  | replace "serviceaccount:ledgergate:" (printf "serviceaccount:%s:" $root.Release.Namespace)
  | replace "[ledgergate, kube-system]" (toJson $excluded) -}}
{{- $objects := list -}}
{{- range splitList "\n---\n" $text -}}
  {{- $object := fromYaml . -}}
  {{- include "ledgergate.label" (list $root $object) -}}
  {{- $objects = append $objects $object -}}
{{- end -}}
{{- toYaml $objects -}}
{{- end -}}

{{/* Adds ledgergate's labels to an object and to its pod template. Arguments: the root context, the object. */}}
{{- define "ledgergate.label" -}}
{{- $labels := dict "app.kubernetes.io/name" "ledgergate" "app.kubernetes.io/version" (index . 0).Chart.AppVersion -}}
{{- $object := index . 1 -}}
{{- $_ := set $object.metadata "labels" (mergeOverwrite (dict) ($object.metadata.labels | default dict) $labels) -}}
{{- with dig "spec" "template" "metadata" nil $object -}}
  {{- $_ := set . "labels" (mergeOverwrite (dict) (.labels | default dict) $labels) -}}
{{- end -}}
{{- end -}}

{{/* Renders each object of a list as a document. Argument: the list. */}}
{{- define "ledgergate.documents" -}}
{{- range . }}
---
{{ toYaml . }}
{{- end }}
{{- end -}}
