-- The advisory lock of a ledger; $1 is its key. A second lock, with a key of two numbers, shows since when it is held:
-- $2, and the seconds since 2020. A row of a table would need one transaction to write and another to clear it, and
-- would outlive a session that is killed.

-- name: attempt
-- The second key of the companion lock; null where another session holds the lock. `offset 0` keeps the clock from being
-- read twice.
select case when pg_try_advisory_lock($1) then case when pg_try_advisory_lock($2::int, now.since) then now.since end end
from (select (extract(epoch from clock_timestamp()) - 1577836800)::int as since offset 0) as now

-- name: is_held
-- Whether this session holds the lock. pg_locks could answer too, but looking through the locks of the whole server costs
-- ten times as much. Unlocking answers, and a transaction-level lock on the same key, which a session may hold beside
-- its session-level lock, keeps other sessions out until the lock is acquired again. CASE fixes the order of the calls.
case
    when pg_try_advisory_xact_lock({key}) then case when pg_advisory_unlock({key}) then pg_try_advisory_lock({key}) else false end
    else false
end

-- name: unlock_others
-- Release every session-level advisory lock but ours. A lock is held as often as it was acquired, which pg_locks does not
-- show, so that unlocking one by one could leave some. The transaction-level lock that {is_held} acquires keeps our lock
-- until it is acquired again. Where the migration has released our lock, it stays released, and the next write to the
-- ledger reports that.
select case
    when {is_held} then case
        when pg_advisory_unlock_all() is not null
        then pg_try_advisory_lock({key}) and pg_try_advisory_lock({companion}::int, {since}::int)
    end
end

-- name: unlock_others_when_held
-- The same where the lock is known to be held, which costs half. The list of a SELECT is computed from left to right.
select
    pg_try_advisory_xact_lock({key}),
    pg_advisory_unlock_all(),
    pg_try_advisory_lock({key}),
    pg_try_advisory_lock({companion}::int, {since}::int)

-- name: reacquire
select case when pg_try_advisory_lock({key}) then pg_try_advisory_lock({companion}::int, {since}::int) else false end

-- name: release
select pg_advisory_unlock_all()

-- name: holder
-- Who holds the lock, and since when; no row when it is free.
-- PostgreSQL, chapter "pg_locks": a bigint key is shown as its halves in classid and objid, with objsubid 1; a key of
-- two integers is shown as it is, with objsubid 2.
select
    held.pid,
    activity.application_name,
    taken.since,
    extract(epoch from clock_timestamp() - taken.since)::float8 as seconds
from pg_catalog.pg_locks as held
cross join lateral (
    select to_timestamp(min(companion.objid::bigint) + 1577836800) as since
    from pg_catalog.pg_locks as companion
    where companion.locktype = 'advisory'
        and companion.pid = held.pid
        and companion.database = held.database
        and companion.objsubid = 2
        and companion.classid = ($2::bigint & 4294967295)::oid
) as taken
left join pg_catalog.pg_stat_activity as activity on activity.pid = held.pid
where held.locktype = 'advisory'
    and held.granted
    and held.objsubid = 1
    and held.classid = (($1::bigint >> 32) & 4294967295)::oid
    and held.objid = ($1::bigint & 4294967295)::oid
    and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
limit 1

-- name: blockers
-- Which sessions block the backend $1, and since when their transactions are open; no row when none does.
select
    coalesce(wanted.relation::regclass::text, wanted.locktype) as target,
    wanted.mode,
    blocker.pid,
    activity.application_name,
    activity.state,
    left(activity.query, 120) as query,
    extract(epoch from clock_timestamp() - activity.xact_start)::float8 as seconds
from pg_catalog.pg_locks as wanted
cross join lateral unnest(pg_catalog.pg_blocking_pids(wanted.pid)) as blocker (pid)
left join pg_catalog.pg_stat_activity as activity on activity.pid = blocker.pid
where wanted.pid = $1 and not wanted.granted
order by activity.xact_start
limit 5
