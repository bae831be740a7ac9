-- Statements for any session, whatever the dialect.

-- name: read_only
-- The settings are local to the transaction: behind a transaction pooler, none leaks to the next client. {limit} is in
-- milliseconds. With row_security off, PostgreSQL raises an error where a policy would leave out rows.
begin transaction isolation level repeatable read read only;
set local row_security = off;
set local statement_timeout = {limit};
set local lock_timeout = {limit}

-- name: configure
-- Set the settings named $1 to the values $2 for the whole session, except those that an older server does not have, and
-- return whether each had that value before. A SELECT evaluates its list from left to right.
select
    setting.name,
    current_setting(setting.name) = set_config(setting.name, setting.value, false) as unchanged
from unnest($1::text[], $2::text[]) as setting (name, value)
where current_setting(setting.name, true) is not null

-- name: reset
-- All that DISCARD ALL does (PostgreSQL, DISCARD), except that our advisory lock stays. In parts, since DISCARD ALL
-- cannot be sent in one message with other statements. With RESET ROLE, since RESET ALL leaves the role as it is. What
-- could make the other statements fail or wait, such as a role or a setting, is reset first.
set session authorization default;
reset role;
reset all;
close all;
deallocate all;
unlisten *;
discard plans;
discard temp;
discard sequences

-- name: exists
-- Whether the table exists; a missing one leaves no error in the server's log.
select to_regclass($1) is not null

-- name: schema_exists
select to_regnamespace($1) is not null

-- name: identity
-- The backend's process id, and whether it accepts no writes.
select pg_backend_pid() as pid, current_setting('transaction_read_only')::boolean as read_only
