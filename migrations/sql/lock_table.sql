-- A lock that is a row of a table, and the sessions that might own it.

-- name: seize
-- Keep every other session from taking or freeing the row until our transaction ends; reading stays possible. {lock} is
-- the quoted name of the lock's table.
lock table {lock} in share row exclusive mode

-- name: owners
-- Sessions that may be working under the row lock. $1 and $2 are the quoted names of the ledger and of the lock's
-- table, $3 and $4 the same without schema and quotes, $5 is the dialect and $6 the keys of the tool's advisory lock.
-- Every role sees all locks (PostgreSQL, chapter "pg_locks"), but only the statements of its own sessions
-- ("pg_stat_activity"). So a session of another role that may update the lock's table counts as a possible owner. With $7,
-- so does every session that may update it, whatever it does.
with locked as (
    select held.pid, string_agg(distinct held.relation::regclass::text || ' (' || held.mode || ')', ', ') as what
    from pg_catalog.pg_locks as held
    where held.granted
        and held.locktype = 'relation'
        and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
        and (
            held.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            or (held.mode = 'RowExclusiveLock' and held.relation in (to_regclass($1), to_regclass($2)))
        )
    group by held.pid
),
advisory as (
    select held.pid
    from pg_catalog.pg_locks as held
    where held.granted
        and held.locktype = 'advisory'
        and held.objsubid = 1
        and (held.classid::bigint << 32 | held.objid::bigint) = any($6::bigint[])
        and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
)
select pid, application_name, reason
from (
    select
        session.pid,
        session.application_name,
        case
            when session.pid in (select pid from advisory) then 'holds the tool''s own lock'
            when locked.pid is not null then 'has locked ' || locked.what
            when position(lower($5) in lower(session.application_name)) > 0 then 'is called ' || session.application_name
            when session.state is null and not role.rolsuper and has_table_privilege(role.oid, to_regclass($2), 'update')
                then 'is one of role ' || session.usename || ', whose statements we may not see'
            when (position($3 in session.query) > 0 or position($4 in session.query) > 0)
                and (session.state <> 'idle' or session.state_change > clock_timestamp() - interval '10 minutes')
                then 'has used the ledger, last by: ' || left(session.query, 60)
            when session.query ~* '^\s*(create|alter|drop|truncate|reindex|refresh|vacuum|cluster)\M'
                and (session.state <> 'idle' or session.state_change > clock_timestamp() - interval '10 minutes')
                then 'has changed the schema, last by: ' || left(session.query, 60)
            when $7 and has_table_privilege(role.oid, to_regclass($2), 'update')
                then 'may write the lock, and was last at: ' || left(session.query, 60)
        end as reason
    from pg_catalog.pg_stat_activity as session
    join pg_catalog.pg_roles as role on role.oid = session.usesysid
    left join locked on locked.pid = session.pid
    where session.datname = current_database()
        and coalesce(session.backend_type, 'client backend') = 'client backend'
        and session.pid <> pg_backend_pid()
        and not starts_with(session.application_name, 'ledgergate ')
) as suspect
where reason is not null
order by pid
