-- Liquibase: a changeset is identified by its file, id and author. If it fails, it leaves no row. If it runs again
-- (`runAlways`, `runOnChange`), its row moves to the end; such a row is returned first, because the changeset is not
-- newer than the others.

-- name: read
select filename, id, author, {time dateexecuted::timestamptz} as executed_at
from {table}
order by exectype <> 'RERAN', orderexecuted, dateexecuted

-- name: lock
-- The time is in the time zone of the Liquibase process, which is not recorded; UTC is assumed, as in most containers.
select left(lockedby, 200) as holder, {time lockgranted at time zone 'UTC'} as since, xmin::text as version
from {lock}
where locked
limit 1

-- name: unlock
-- As `liquibase release-locks`.
update {lock} set locked = false, lockgranted = null, lockedby = null where locked
