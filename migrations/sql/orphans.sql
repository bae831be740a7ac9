-- Sessions that a killed run has left on the server: their application_name begins with $1.

-- name: end
-- Terminate them: the server notices that a client is gone only when it next writes to it, which may be hours later.
-- `ended` is false for a session that our role may not signal (PostgreSQL, "Server Signaling Functions").
select
    session.pid,
    case when pg_has_role(session.usesysid, 'usage') then pg_terminate_backend(session.pid) else false end as ended
from pg_catalog.pg_stat_activity as session
where session.datname = current_database() and starts_with(session.application_name, $1) and session.pid <> pg_backend_pid()
