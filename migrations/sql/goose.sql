-- The newest row of a version tells whether it is applied: older releases of goose wrote one for an undone migration,
-- newer ones delete them. Version 0 is the seed of the table. A migration that fails leaves no row.

-- name: read
select version_id, applied_at
from (
    select distinct on (version_id) version_id, is_applied, tstamp::timestamptz as applied_at
    from {table}
    where version_id > 0
    order by version_id, id desc
) as newest
where is_applied
