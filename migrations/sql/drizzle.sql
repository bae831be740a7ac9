-- Drizzle: the SHA-256 of a file, and the time `when` of its entry in meta/_journal.json. Drizzle compares that time to
-- find what is pending. The name of a migration is not recorded. A migration that fails leaves no row.

-- name: read
select hash, created_at
from {table}
where created_at is not null
