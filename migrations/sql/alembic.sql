-- Alembic: the heads of the applied revisions, one for each branch, and no history. A migration that fails leaves no
-- trace.

-- name: read
-- Names of revisions have no order. They are sorted so that the same heads always make the same ledger.
select version_num
from {table}
order by version_num collate "C"
