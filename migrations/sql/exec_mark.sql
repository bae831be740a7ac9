-- What a run of `exec` writes down about itself while its command runs, so that a later run can prove whose lock row it
-- finds. {mark} is the quoted name of the table, one row for each ledger of its schema.

-- name: create
-- `lock_version` is the transaction in which the command took the tool's lock row; null while it is not known to have
-- taken it. `session_pids` and `session_starts` identify the command's sessions.
create table if not exists {mark} (
    ledger text primary key,
    run_by text not null,
    began_at timestamptz not null,
    seen_at timestamptz not null,
    ended_at timestamptz,
    lock_version text,
    session_pids integer[] not null default '{}',
    session_starts timestamptz[] not null default '{}'
)

-- name: begin
-- $1 is the ledger's table, $2 the pod or host of the run.
insert into {mark} (ledger, run_by, began_at, seen_at)
values ($1, $2, clock_timestamp(), clock_timestamp())
on conflict (ledger) do update set
    run_by = excluded.run_by,
    began_at = excluded.began_at,
    seen_at = excluded.seen_at,
    ended_at = null,
    lock_version = null,
    session_pids = '{}',
    session_starts = '{}'
returning began_at

-- name: read
select
    run_by,
    began_at,
    ended_at is not null as ended,
    lock_version,
    extract(epoch from clock_timestamp() - seen_at)::float8 as silent_for
from {mark}
where ledger = $1

-- name: note
update {mark}
set seen_at = clock_timestamp(), lock_version = $2, session_pids = $3, session_starts = $4
where ledger = $1

-- name: end
update {mark} set ended_at = clock_timestamp() where ledger = $1

-- name: remove
delete from {mark} where ledger = $1

-- name: end_sessions
-- Terminate the recorded sessions that are still there. `ended` is false for one that our role may not signal
-- (PostgreSQL, "Server Signaling Functions").
select
    session.pid,
    case when pg_has_role(session.usesysid, 'usage') then pg_terminate_backend(session.pid) else false end as ended
from {mark} as mark
cross join unnest(mark.session_pids, mark.session_starts) as recorded (pid, started)
join pg_catalog.pg_stat_activity as session on session.pid = recorded.pid and session.backend_start = recorded.started
where mark.ledger = $1 and session.pid <> pg_backend_pid()

-- name: unseen_sessions
-- Sessions at work that were opened after the run last looked, and before its command was dead at the latest, $2 seconds
-- later: the command may have opened them. An idle one without a transaction has no work that could go on.
select session.pid, session.application_name as name
from {mark} as mark
join pg_catalog.pg_stat_activity as session
    on session.backend_start >= mark.seen_at and session.backend_start <= mark.seen_at + make_interval(secs => $2)
where mark.ledger = $1
    and mark.ended_at is null
    and session.datname = current_database()
    and session.state <> 'idle'
    and session.backend_type = 'client backend'
    and session.pid <> pg_backend_pid()
    and not starts_with(session.application_name, 'ledgergate ')

-- name: lock_row_version
-- The transaction that wrote the lock row, which {lock} selects while it is taken; null while it is free.
select (select version from ({lock}) as taken)

-- name: begin_guard
-- Both settings are explicit, since the role may have other defaults: each statement has to see what is committed, and
-- the last one writes.
begin transaction isolation level read committed read write

-- name: look_again
-- PostgreSQL, "Viewing Statistics": within a transaction pg_stat_activity stays as it was read first.
select pg_stat_clear_snapshot()

-- name: let_through
-- Commit what our transaction has noted, which lets the sessions through that wait for the lock's table, and lock the
-- table again as soon as they have written. One message: PostgreSQL grants locks in the order of the requests, so no
-- other session writes in between. Others queue behind it, so the wait ends, and well within HEARTBEAT_TIMEOUT, which the
-- look shares with it; but not before a write that is slow to commit: whose the row is would stay unknown for good. While
-- it lasts the mark has no version, so that nothing is freed by it however late the next sign of life is.
commit;
begin transaction isolation level read committed read write;
set local lock_timeout = '3s';
lock table {lock} in share row exclusive mode

-- name: guard
-- Keep every session from writing the lock's table until our transaction ends. NOWAIT, since a queued request would
-- block sessions that could go on.
lock table {lock} in share row exclusive mode nowait

-- name: busy
-- Whether a session has a lock on the lock's table $1 that `guard` would have to wait for.
select exists (
    select from pg_catalog.pg_locks as held
    where held.locktype = 'relation'
        and held.relation = to_regclass($1)
        and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
        and held.pid <> pg_backend_pid()
        and held.mode not in ('AccessShareLock', 'RowShareLock')
)

-- name: sessions
-- The sessions that the command may have opened: those since $1, those with the mark $2 in their name, and those that
-- wait for a lock on the lock's table $3. A session whose details our role may not see has no time and no address.
with waiting as (
    select wanted.pid
    from pg_catalog.pg_locks as wanted
    where not wanted.granted
        and wanted.locktype = 'relation'
        and wanted.relation = to_regclass($3)
        and wanted.database = (select oid from pg_catalog.pg_database where datname = current_database())
)
select
    session.pid,
    session.backend_start as started,
    coalesce(session.application_name, '') as name,
    host(session.client_addr) as address,
    session.client_port as port,
    session.pid in (select pid from waiting) as waits,
    session.xact_start < session.query_start as in_transaction
from pg_catalog.pg_stat_activity as session
where session.datname = current_database()
    and session.pid <> pg_backend_pid()
    and coalesce(session.backend_type, 'client backend') = 'client backend'
    and (
        session.backend_start >= $1
        or session.backend_start is null
        or starts_with(session.application_name, $2)
        or session.pid in (select pid from waiting)
    )

-- name: own_endpoint
select host(inet_client_addr()) as address, inet_client_port() as port
