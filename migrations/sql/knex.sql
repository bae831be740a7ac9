-- Knex: a row for each applied migration; it sorts them by file name. A name may be null, and may be recorded twice. A
-- migration that fails leaves no row.

-- name: read
select name, batch, {time migration_time} as migration_time
from {table}
where name is not null

-- name: lock
-- Knex records neither who took the lock nor when.
select null::text as holder, null::timestamptz as since, xmin::text as version
from {lock}
where is_locked = 1
limit 1

-- name: unlock
-- As `knex migrate:unlock`, except that no row is deleted: there is only one.
update {lock} set is_locked = 0 where is_locked <> 0
