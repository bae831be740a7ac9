-- What a session waits for.

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
