-- Flyway writes a row for whatever happens to a version, and the newest tells how it is now: a migration or a baseline
-- applies it, an undo or a deletion (`repair` without the file) takes it away. Without a version it is a repeatable
-- migration, known by its description. What fails in a transaction leaves no row; else one without success.

-- name: read
select version, description, state, installed_on, execution_time, installed_by, baseline
from (
    select distinct on (coalesce(version, 'R__' || description))
        version,
        description,
        case when success then 'applied' else 'failed' end as state,
        installed_on::timestamptz as installed_on,
        execution_time,
        installed_by,
        type like '%BASELINE' as baseline,
        left(type, 4) in ('UNDO', 'DELE') as undone
    from {table}
    where type <> 'SCHEMA'
    order by coalesce(version, 'R__' || description), installed_rank desc
) as newest
where state = 'failed' or not undone
