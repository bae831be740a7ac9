-- One row: the newest version. It is written as dirty before a migration runs and as clean after it, each time by
-- emptying the table. Before the first migration, and after the last was undone, there is none, or a dirty -1.

-- name: read
select version, case when not dirty then 'applied' when {held} then 'running' else 'failed' end as state
from {table}
