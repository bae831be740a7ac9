-- Yoyo: file names without extension, in the order in which they ran; files may name others that they depend on.
-- A migration that fails leaves no row.

-- name: read
select migration_id, {time applied_at_utc at time zone 'UTC'} as applied_at
from {table}
where migration_id is not null
order by applied_at_utc, migration_id collate "C"

-- name: lock
-- The number is a process id; the machine is not recorded.
select 'process ' || pid as holder, {time ctime at time zone 'UTC'} as since, xmin::text as version
from {lock}
limit 1

-- name: unlock
-- As `yoyo break-lock`.
delete from {lock}
