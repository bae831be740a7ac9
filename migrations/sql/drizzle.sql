-- Drizzle: the SHA-256 of a file, and of its entry in meta/_journal.json the time `when`, by which Drizzle tells what is
-- pending. A migration's name is not recorded. What fails leaves no row.

-- name: read
select hash, created_at
from {table}
where created_at is not null
