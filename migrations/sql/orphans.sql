-- What a run that was killed has left on the server: sessions whose application_name begins with $1.

-- name: end
-- The server notices that a client is gone when it next writes to it, which may be hours later. Whether each is told to
-- end: it takes the rights of its role (PostgreSQL, "Server Signaling Functions").
select
    session.pid,
    case when pg_has_role(session.usesysid, 'usage') then pg_terminate_backend(session.pid) else false end as ended
from pg_catalog.pg_stat_activity as session
where session.datname = current_database() and starts_with(session.application_name, $1) and session.pid <> pg_backend_pid()
