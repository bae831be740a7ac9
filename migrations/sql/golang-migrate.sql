-- golang-migrate: one row with the newest version. Before a migration runs, the table is emptied and the version is
-- written as dirty; after it, the same as clean. Before the first migration, and after the last was undone, there is no
-- row, or a dirty -1.

-- name: read
select version, case when not dirty then 'applied' when {held} then 'running' else 'failed' end as state
from {table}
