{{/* Shared by the pods of controller, gateway and migrations. */}}

{{- define "cliscale.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (printf "%s-controller" .Values.namespace.name) }}
{{- end }}

{{- define "cliscale.environment" -}}
{{ .Values.migrations.knexEnv | default .Values.migrations.environment }}
{{- end }}

{{- define "cliscale.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "cliscale.selector" -}}
app.kubernetes.io/part-of: cliscale
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cliscale.labels" -}}
{{ include "cliscale.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Annotations of the objects that the migration hook needs (Namespace, Secret, ServiceAccount), and that are therefore
     hooks. They are rendered only if they do not exist, because Helm would otherwise delete and recreate them at each
     upgrade, and with them the tokens of running pods. For the same reason nothing deletes them after success. */}}
{{- define "cliscale.beforehand" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: hook-failed
{{- end }}

{{/* knexfile.js reads DB_*; psql and other clients of libpq read PG*. */}}
{{- define "cliscale.database" -}}
{{- $secret := .Values.database.secret -}}
{{- if .Values.cloudSqlProxy.enabled -}}
- {name: DB_HOST, value: 127.0.0.1}
- {name: DB_PORT, value: {{ .Values.cloudSqlProxy.port | quote }}}
{{- else -}}
- {name: DB_HOST, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: host}}}
- {name: DB_PORT, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: port}}}
{{- end }}
- {name: DB_NAME, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: database}}}
- {name: DB_USER, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: username}}}
- {name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: password}}}
- {name: PGHOST, value: $(DB_HOST)}
- {name: PGPORT, value: $(DB_PORT)}
- {name: PGDATABASE, value: $(DB_NAME)}
- {name: PGUSER, value: $(DB_USER)}
- {name: PGPASSWORD, value: $(DB_PASSWORD)}
- {name: NODE_ENV, value: {{ include "cliscale.environment" . }}}
{{- end }}

{{/* A native sidecar (Kubernetes 1.29): starts before the other containers, and does not keep a Job from ending. */}}
{{- define "cliscale.proxy" -}}
- name: cloud-sql-proxy
  image: {{ .Values.cloudSqlProxy.image }}
  restartPolicy: Always
  args: [--structured-logs, --port={{ .Values.cloudSqlProxy.port }}, --health-check, {{ .Values.cloudSqlProxy.instance }}]
  startupProbe:
    httpGet: {path: /startup, port: 9090}
    periodSeconds: 1
    failureThreshold: 60
  resources:
    requests: {cpu: 50m, memory: 64Mi}
  securityContext: {{ include "cliscale.confined" . }}
{{- end }}

{{- define "cliscale.confined" -}}
{allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{/* What a migrator brings, as `ledgergate migrate revision --output annotations` writes it: the newest 16. */}}
{{- define "cliscale.contracts" -}}
{{- $contracts := .Values.migrations.contracts }}
{{- range $index, $contract := slice $contracts (max 0 (sub (len $contracts) 16)) }}{{ if $index }} {{ end }}{{ .revision }}:{{ .compatibleFrom }}{{ end }}
{{- end }}

{{/* Annotations of a pod that migrates: which gate lets it start, and what it does to older images. The annotation
     `phase` goes with the variable LEDGERGATE_PHASE. Argument: as for cliscale.migrator. */}}
{{- define "cliscale.migrates" -}}
ledgergate.dev/migrates: {{ .root.Release.Name }}
{{- if eq (.phase | default "") "expand" }}
ledgergate.dev/phase: expand
{{- else if eq (.phase | default "") "contract" }}
ledgergate.dev/contract: {{ include "cliscale.contracts" .root | quote }}
{{- end }}
{{- end }}

{{/* The phase of what runs before the Deployments are changed, or as they change. */}}
{{- define "cliscale.firstPhase" -}}
{{ if .Values.migrations.phases }}expand{{ end }}
{{- end }}

{{/* Argument: a dict of root, name, command and, optionally, expect and phase. */}}
{{- define "cliscale.migrator" -}}
{{- $root := .root -}}
- name: {{ .name }}
  image: {{ include "cliscale.image" (dict "root" $root "image" $root.Values.controller.image) }}
  command: {{ .command | toJson }}
  env:
    {{- include "cliscale.database" $root | nindent 4 }}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    {{- with .expect }}
    # `exec` then skips Knex if the ledger has this revision already, and fails if it still lacks it afterwards.
    - {name: LEDGERGATE_EXPECT, value: {{ . | quote }}}
    {{- end }}
    {{- with .phase }}
    # As the flag --phase of `ledgergate migrate`; knexfile.js reads it too.
    - {name: LEDGERGATE_PHASE, value: {{ . }}}
    {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  resources: {{ $root.Values.migrations.resources | toJson }}
  securityContext: {{ include "cliscale.confined" $root }}
{{- end }}

{{/* The pod of a Job. restartPolicy Never: each try is a pod whose log stays. Argument: as for cliscale.migrator. */}}
{{- define "cliscale.migrationPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "cliscale.labels" $root | nindent 4 }}
    app.kubernetes.io/component: migration
  annotations:
    {{- include "cliscale.migrates" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "cliscale.serviceAccount" $root }}
  restartPolicy: Never
  {{- if $root.Values.cloudSqlProxy.enabled }}
  initContainers:
    {{- include "cliscale.proxy" $root | nindent 4 }}
  {{- end }}
  containers:
    {{- include "cliscale.migrator" . | nindent 4 }}
{{- end }}
