-- node-pg-migrate: file names without extension, which begin with a time. What fails leaves no row.

-- name: read
-- `run_on` has no time zone and is the default, now(): the time of the session that wrote it.
select name, run_on::timestamptz as run_on
from {table}
