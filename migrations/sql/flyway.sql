-- Flyway writes a row for each event of a version, and the newest row counts: a migration or a baseline applies the
-- version, an undo or a deletion (`repair` without the file) removes it. A row without a version belongs to a
-- repeatable migration, identified by its description. A migration that fails in a transaction leaves no row; any other
-- that fails leaves a row without `success`.

-- name: read
select version, description, state, installed_on, execution_time, installed_by, baseline
from (
    select distinct on (coalesce(version, 'R__' || description))
        version,
        description,
        case when success then 'applied' else 'failed' end as state,
        {time installed_on::timestamptz} as installed_on,
        execution_time,
        installed_by,
        type like '%BASELINE' as baseline,
        left(type, 4) in ('UNDO', 'DELE') as undone
    from {table}
    where type <> 'SCHEMA'
    order by coalesce(version, 'R__' || description), installed_rank desc
) as newest
where state = 'failed' or not undone
