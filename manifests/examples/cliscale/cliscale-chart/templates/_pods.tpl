{{/* What the pods of controller, gateway and migrations have in common. */}}

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

{{/* Objects that the migrating Job needs before Helm creates anything else. Hooks, and not objects of the release; written
     only where they do not exist, since Helm would delete and create them anew at each upgrade otherwise, and a running
     pod's token or the database's Secret with them. For the same reason nothing deletes them afterwards. */}}
{{- define "cliscale.beforehand" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: hook-failed
{{- end }}

{{/* DB_* are what knexfile.js reads, PG* what psql and every other client of libpq reads. */}}
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

{{/* A native sidecar (Kubernetes 1.29): up before the containers that need it, and no reason for a Job to go on for ever. */}}
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

{{/* Takes a dict of root, name and command. */}}
{{- define "cliscale.migrator" -}}
{{- $root := .root -}}
- name: {{ .name }}
  image: {{ include "cliscale.image" (dict "root" $root "image" $root.Values.controller.image) }}
  command: {{ .command | toJson }}
  env:
    {{- include "cliscale.database" $root | nindent 4 }}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    {{- with .expect }}
    # Whoever comes second has nothing to do, and whoever was last makes sure that it is there.
    - {name: LEDGERGATE_EXPECT, value: {{ . | quote }}}
    {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  resources: {{ $root.Values.migrations.resources | toJson }}
  securityContext: {{ include "cliscale.confined" $root }}
{{- end }}

{{/* The pod of a Job. Never, so that each try is a pod of its own whose log stays; takes a dict as the migrator does. */}}
{{- define "cliscale.migrationPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "cliscale.labels" $root | nindent 4 }}
    app.kubernetes.io/component: migration
  annotations:
    ledgergate.dev/migrates: {{ $root.Release.Name }}
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
