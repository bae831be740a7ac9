-- goose: the newest row of a version shows whether it is applied. Older releases of goose insert a row for a migration
-- that is undone, newer ones delete its rows. Version 0 is the first row of every table. A migration that fails leaves
-- no row.

-- name: read
select version_id, applied_at
from (
    select distinct on (version_id) version_id, is_applied, {time tstamp::timestamptz} as applied_at
    from {table}
    where version_id > 0
    order by version_id, id desc
) as newest
where is_applied
