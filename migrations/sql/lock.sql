-- The advisory lock of a ledger; $1 is its key.

-- name: attempt
select pg_try_advisory_lock($1)

-- name: release
select pg_advisory_unlock($1)

-- name: holder
-- PostgreSQL, chapter "pg_locks": a bigint key is shown as its halves in classid and objid, with objsubid 1.
select held.pid, activity.application_name, extract(epoch from clock_timestamp() - activity.backend_start)::float8 as seconds
from pg_catalog.pg_locks as held
left join pg_catalog.pg_stat_activity as activity on activity.pid = held.pid
where held.locktype = 'advisory'
    and held.granted
    and held.objsubid = 1
    and held.classid = (($1::bigint >> 32) & 4294967295)::oid
    and held.objid = ($1::bigint & 4294967295)::oid
    and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
limit 1
