-- Ecto: the leading digits of the file name of each applied migration. A migration that fails leaves no row.

-- name: read
select version, {time inserted_at at time zone 'UTC'} as applied_at
from {table}
