-- Atlas writes a row before its file runs and after each statement of it: `applied` of `total` statements are done.
-- In `type`, bit 1 marks a baseline, and bit 4 a migration that was settled by hand (`atlas migrate set`).
-- Atlas never runs a file that is older than its first row: that is a baseline or a checkpoint, if there is one.

-- name: read
select
    version,
    case
        when type & 4 = 4 or (applied = total and coalesce(error, '') = '') then 'applied'
        when {held} then 'running'
        else 'failed'
    end as state,
    case when type & 4 = 0 then nullif(left(error, 2000), '') end as error,
    {time executed_at} as executed_at,
    execution_time,
    version = min(version collate "C") over () as baseline
from {table}
where version <> '.atlas_cloud_identifier'
