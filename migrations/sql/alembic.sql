-- Alembic: the heads of the revisions that are applied, one for each branch, and no history. What fails leaves no trace.

-- name: read
-- Their names are no order; sorted, so that the same heads are read as the same ledger.
select version_num
from {table}
order by version_num collate "C"
