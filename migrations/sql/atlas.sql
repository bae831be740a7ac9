-- A row is written before its file runs and after each statement of it; `applied` of `total` statements are done.
-- In `type`, bit 1 is a baseline, bit 4 a migration that somebody has settled (`atlas migrate set`).
-- Atlas never runs a file that is older than its first row, which is a baseline or a checkpoint where there are such.

-- name: read
select
    version,
    case
        when type & 4 = 4 or (applied = total and coalesce(error, '') = '') then 'applied'
        when {held} then 'running'
        else 'failed'
    end as state,
    case when type & 4 = 0 then nullif(error, '') end as error,
    executed_at,
    execution_time,
    version = min(version collate "C") over () as baseline
from {table}
where version <> '.atlas_cloud_identifier'
