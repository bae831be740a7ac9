-- pgroll: one history for each schema; the one of the session's current schema is read. Changes that other programs
-- made and pgroll only noticed (`inferred`) belong to no image. A migration that is started and not completed can
-- already serve the images that expect it, once `pgroll start` has created its version schema. So the migration is
-- running while pgroll has a session; without a session it is applied if the version schema exists, and has failed if
-- it does not.

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
    {time entry.created_at} as created_at,
    case when entry.done then {time entry.updated_at} end as finished_at
from {table} as entry
where entry.schema = coalesce(current_schema(), 'public') and entry.migration_type <> 'inferred'
order by entry.created_at, entry.name
