-- A changeset is its file, id and author. One that fails leaves no row. One that ran again (`runAlways`, `runOnChange`)
-- has its row moved to the end; it is given first instead, since it is no news to who waits for a newer changeset.

-- name: read
select filename, id, author, dateexecuted::timestamptz as executed_at
from {table}
order by exectype <> 'RERAN', orderexecuted, dateexecuted

-- name: lock
-- The time is that of the zone in which Liquibase runs, which is nowhere told: UTC, as in most containers.
select lockedby as holder, lockgranted at time zone 'UTC' as since
from {lock}
where locked
limit 1

-- name: unlock
-- What `liquibase release-locks` does.
update {lock} set locked = false, lockgranted = null, lockedby = null where locked
