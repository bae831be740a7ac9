-- One history for each schema; that of the session's own is read. Changes of the schema that pgroll only noticed
-- (`inferred`) belong to no image. An expand-and-contract migration that is started but not completed serves the images
-- that expect it through its version schema, which is there when `pgroll start` has got that far: while a session of
-- pgroll's is there it runs, without one it has ended so, or without a version schema it has died.

-- name: read
select
    entry.name,
    case
        when entry.done then 'applied'
        when exists (
            select from pg_catalog.pg_stat_activity
            where datname = current_database() and application_name = 'pgroll-state'
        ) then 'running'
        when exists (
            select from pg_catalog.pg_namespace
            where nspname = entry.schema || '_' || coalesce(entry.migration ->> 'version_schema', entry.name)
        ) then 'applied'
        else 'failed'
    end as state,
    entry.created_at,
    case when entry.done then entry.updated_at end as finished_at
from {table} as entry
where entry.schema = coalesce(current_schema(), 'public') and entry.migration_type <> 'inferred'
order by entry.created_at, entry.name
