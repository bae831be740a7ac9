-- node-pg-migrate: file names without extension, which begin with a time. A migration that fails leaves no row.

-- name: read
-- `run_on` has no time zone: it is the default, now(), in the time zone of the session that wrote it.
select name, {time run_on::timestamptz} as run_on
from {table}
