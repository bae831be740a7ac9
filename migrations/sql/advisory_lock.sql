-- The advisory lock of a ledger; $1 is its key. A companion lock, whose key is two numbers, shows since when it is
-- held: the first is $2, the second the time of acquisition in seconds since 2020. A row of a table would need one
-- transaction to write it and another to clear it, and would outlive a session that is killed.

-- name: attempt
-- The second key of the companion lock; null where another session holds the lock. `offset 0` keeps the clock from being
-- read twice.
select case when pg_try_advisory_lock($1) then case when pg_try_advisory_lock($2::int, now.since) then now.since end end
from (select (extract(epoch from clock_timestamp()) - 1577836800)::int as since offset 0) as now

-- name: release
select pg_advisory_unlock_all()

-- name: holder
-- Who holds the lock, and since when; no row when it is free.
-- PostgreSQL, chapter "pg_locks": a bigint key is shown as its halves in classid and objid, with objsubid 1; a key of
-- two integers is shown as it is, with objsubid 2.
-- pg_locks is read once: of two readings, the second could find the lock released, and miss its companion.
with advisory as materialized (
    select pid, classid, objid, objsubid, granted
    from pg_catalog.pg_locks
    where locktype = 'advisory'
        and database = (select oid from pg_catalog.pg_database where datname = current_database())
)
select
    held.pid,
    activity.application_name,
    taken.since,
    extract(epoch from clock_timestamp() - taken.since)::float8 as seconds
from advisory as held
cross join lateral (
    select to_timestamp(min(companion.objid::bigint) + 1577836800) as since
    from advisory as companion
    where companion.pid = held.pid
        and companion.objsubid = 2
        and companion.classid = ($2::bigint & 4294967295)::oid
) as taken
left join pg_catalog.pg_stat_activity as activity on activity.pid = held.pid
where held.granted
    and held.objsubid = 1
    and held.classid = (($1::bigint >> 32) & 4294967295)::oid
    and held.objid = ($1::bigint & 4294967295)::oid
limit 1
