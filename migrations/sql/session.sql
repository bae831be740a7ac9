-- What every session may need, whatever the dialect.

-- name: read_only
-- Settings are local to the transaction: behind a transaction pooler nothing leaks to the next client. Milliseconds.
begin transaction isolation level repeatable read read only;
set local statement_timeout = {limit};
set local lock_timeout = {limit}

-- name: configure
-- Settings for the whole session, names $1 and values $2; a server that is too old for one goes without it.
select set_config(setting.name, setting.value, false)
from unnest($1::text[], $2::text[]) as setting (name, value)
where current_setting(setting.name, true) is not null

-- name: exists
-- False where the table is missing, without an error in the server's log.
select to_regclass($1) is not null

-- name: schema_exists
select to_regnamespace($1) is not null

-- name: identity
-- Which backend answers, and whether it takes writes.
select pg_backend_pid() as pid, current_setting('transaction_read_only')::boolean as read_only
