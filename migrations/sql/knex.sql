-- Knex sorts migrations by file name. A name is neither required nor unique; a migration that fails leaves no row.

-- name: read
select name, batch, migration_time
from {table}
where name is not null

-- name: lock
-- `is_locked` is all that it says; nobody knows who set it, nor when.
select null::text as holder, null::timestamptz as since
from {lock}
where is_locked = 1
limit 1

-- name: unlock
-- What `knex migrate:unlock` does, but for the rows that it deletes: there is one.
update {lock} set is_locked = 0 where is_locked <> 0
