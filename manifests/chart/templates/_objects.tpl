{{/*
The objects of one file of files/, as a YAML list, with this release's namespace and ledgergate's labels.

Each manifest exists once, in files/, because a chart cannot read files outside its own directory. The kustomize
directories (manifests/base and others) list those of files/ as resources. The templates only apply the values.

Arguments: the root context, the file's path in files/.
*/}}
{{- define "ledgergate.objects" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $text := $root.Files.Get (printf "files/%s" $name) | required (printf "files/%s is missing from the chart" $name) -}}
{{- $objects := list -}}
{{- range splitList "\n---\n" $text -}}
  {{- $object := fromYaml . -}}
  {{- include "ledgergate.place" (list $root $object) -}}
  {{- include "ledgergate.label" (list $root $object) -}}
  {{- $objects = append $objects $object -}}
{{- end -}}
{{- toYaml $objects -}}
{{- end -}}

{{/*
Puts the release's namespace wherever an object names ledgergate's: its own, subjects, Services, selectors, and CEL
expressions, which name the controller's service account. Arguments: the root context, the object.
*/}}
{{- define "ledgergate.place" -}}
{{- $root := index . 0 -}}
{{- $object := index . 1 -}}
{{- $subjects := concat (list $object.metadata) ($object.subjects | default list) -}}
{{- $constraints := list (dig "spec" "matchConstraints" dict $object) -}}
{{- $expressions := list -}}
{{- range list "matchConditions" "variables" "validations" "auditAnnotations" -}}
  {{- $expressions = concat $expressions (dig "spec" . list $object) -}}
{{- end -}}
{{- range $object.webhooks -}}
  {{- $subjects = append $subjects .clientConfig.service -}}
  {{- $constraints = append $constraints . -}}
  {{- $expressions = concat $expressions (.matchConditions | default list) -}}
{{- end -}}
{{- range $subjects -}}
  {{- if eq (.namespace | default "") "ledgergate" }}{{ $_ := set . "namespace" $root.Release.Namespace }}{{ end -}}
{{- end -}}
{{- $excluded := concat (list $root.Release.Namespace "kube-system") $root.Values.admission.excludedNamespaces -}}
{{- range $constraints -}}
  {{- range dig "namespaceSelector" "matchExpressions" list . -}}
    {{- if eq .key "kubernetes.io/metadata.name" }}{{ $_ := set . "values" (uniq $excluded) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- $account := printf "system:serviceaccount:%s:" $root.Release.Namespace -}}
{{- range $each := $expressions -}}
  {{- with .expression }}{{ $_ := set $each "expression" (replace "system:serviceaccount:ledgergate:" $account .) }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Adds ledgergate's labels and `commonLabels` to an object and its pod template. Arguments: the root context, the object. */}}
{{- define "ledgergate.label" -}}
{{- $root := index . 0 -}}
{{- $object := index . 1 -}}
{{- $own := dict "app.kubernetes.io/name" "ledgergate" "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $common := $root.Values.commonLabels -}}
{{- $_ := set $object.metadata "labels" (mergeOverwrite (dict) $common ($object.metadata.labels | default dict) $own) -}}
{{- with dig "spec" "template" "metadata" nil $object -}}
  {{- $_ := set . "labels" (mergeOverwrite (dict) $common (.labels | default dict) $own) -}}
{{- end -}}
{{- end -}}

{{/* Renders each object of a list as a document. Argument: the list. */}}
{{- define "ledgergate.documents" -}}
{{- range . }}
---
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
Whether the chart sees a cluster: `helm install` and `helm upgrade` do, `helm template` (kustomize, Argo CD) and client
dry runs do not. Renders "true" or nothing. Argument: the root context.
*/}}
{{- define "ledgergate.sees-a-cluster" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" }}true{{ end -}}
{{- end -}}

{{/*
Whether the policy is installed. Without a cluster to ask, the version decides: `--kube-version`, else that of helm's own
libraries. Renders "true" or nothing. Argument: the root context.
*/}}
{{- define "ledgergate.with-policy" -}}
{{- $known := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
{{- $new := semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version -}}
{{- $found := or $known (and $new (not (include "ledgergate.sees-a-cluster" .))) -}}
{{- if or (eq .Values.admission.policy "always") (and (eq .Values.admission.policy "auto") $found) }}true{{ end -}}
{{- end -}}
