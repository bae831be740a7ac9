-- The native ledger. {table} is its quoted, qualified name. {lock_is_held} is false when the migration has released the
-- ledger's lock: then `applied_by` becomes null, which the table refuses, and nothing is recorded. A row is found by
-- every spelling of its revision: older versions recorded a name in the Unicode form that the file system gave it.

-- name: read
-- Every record, in the order of names, as in the directory.
select
    revision,
    state,
    checksum,
    batch,
    compatible_from,
    left(error, 2000) as error,
    {time started_at} as started_at,
    {time finished_at} as finished_at,
    duration_ms,
    applied_by
from {table}
order by revision collate "C"

-- name: create
create table if not exists {table} (
    id bigint generated always as identity primary key,
    revision text collate "C" not null unique,
    checksum text,
    batch integer not null,
    state text not null check (state in ('running', 'applied', 'failed')),
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    duration_ms bigint,
    applied_by text not null,
    compatible_from text,
    error text,
    statements_total integer,
    statements_done integer,
    statement_begun integer
)

-- name: extend
-- Add the columns that ledgers of older versions lack: the progress of a migration outside a transaction. Statements 1
-- to `statements_done` of `statements_total` are committed. `statement_begun` is the number of a statement that cannot
-- run in a transaction and has begun; null when there is none.
alter table {table}
    add column if not exists statements_total integer,
    add column if not exists statements_done integer,
    add column if not exists statement_begun integer

-- name: extended
-- Whether the table has those columns.
select count(*) = 3 from pg_catalog.pg_attribute
where attrelid = to_regclass($1) and not attisdropped
    and attname in ('statements_total', 'statements_done', 'statement_begun')

-- name: record
-- Record an applied migration and announce it, in the transaction that applied it. {guard} is false when the migration
-- has ended that transaction itself: then the revision becomes null, which the table refuses, and nothing is recorded.
-- Two statements, since they are planned in half the time of one.
insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, duration_ms, started_at, finished_at)
values (
    case when {guard} then {revision} end, {checksum}, {batch}, 'applied', case when {lock_is_held} then {applied_by} end,
    {compatible_from}, extract(epoch from clock_timestamp() - transaction_timestamp()) * 1000, transaction_timestamp(),
    clock_timestamp()
);
notify ledgergate, {revision}

-- name: begin
-- Record a migration that runs outside a transaction, before its first statement.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, statements_total, statements_done)
    values ({revision}, {checksum}, {batch}, 'running', case when {lock_is_held} then {applied_by} end, {compatible_from}, $1, 0)
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: resume
-- The same for a migration that resumes where it was stopped.
with recorded as (
    update {table}
    set state = 'running',
        error = null,
        applied_by = case when {lock_is_held} then {applied_by} end,
        batch = {batch},
        finished_at = null,
        duration_ms = null
    where revision in ({revision}, {decomposed}) and state <> 'applied'
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: stopped
-- The recorded progress of revision $1.
select statements_total, statements_done, statement_begun from {table} where revision = any($1)

-- name: recorded
-- Whether revision $1 has a row.
select exists (select from {table} where revision = any($1))

-- name: advance
-- Record that this many statements are committed, or will be together with this update.
update {table}
set statements_done = {done}, statement_begun = null, applied_by = case when {lock_is_held} then applied_by end
where revision in ({revision}, {decomposed})

-- name: expose
-- Record that the statement with this number is about to begin. A run that finds it later cannot know whether it ended.
update {table} set statement_begun = {begun}, applied_by = case when {lock_is_held} then applied_by end where revision in ({revision}, {decomposed})

-- name: finish
-- Record how a migration ended: state $2, error $3 (null when applied).
with recorded as (
    update {table}
    set state = $2,
        applied_by = case when {lock_is_held} then applied_by end,
        error = $3,
        -- Set here as well, since SET statements at the end record no progress of their own.
        statements_done = case when $2 = 'applied' then statements_total else statements_done end,
        finished_at = clock_timestamp(),
        duration_ms = extract(epoch from clock_timestamp() - started_at) * 1000
    where revision = any($1) and state = 'running'
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: begin_undo
-- Record that $2 undoes a migration outside a transaction, before its first statement; the `error` $3 marks it as a
-- down.
with recorded as (
    update {table}
    set state = 'running',
        applied_by = case when {lock_is_held} then $2 end,
        error = $3,
        started_at = clock_timestamp(),
        finished_at = null,
        duration_ms = null
    where revision = any($1)
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: remove
-- Remove a migration that was undone, and announce it.
with removed as (
    delete from {table} where revision = any($1) returning revision
)
select pg_notify('ledgergate', revision) from removed

-- name: unrecord
-- The same in the transaction that undid it. The first statement fails where {guard} is false, see `record`.
update {table}
set revision = case when {guard} then revision end, applied_by = case when {lock_is_held} then applied_by end
where revision in ({revision}, {decomposed});
with removed as (
    delete from {table} where revision in ({revision}, {decomposed}) returning revision
)
select pg_notify('ledgergate', revision) from removed

-- name: remove_undone
-- The same outside a transaction, where only the lock has to be checked.
update {table} set applied_by = case when {lock_is_held} then applied_by end where revision in ({revision}, {decomposed});
with removed as (
    delete from {table} where revision in ({revision}, {decomposed}) returning revision
)
select pg_notify('ledgergate', revision) from removed

-- name: baseline
-- Record a revision that was never run here: batch 0, which no run has.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, finished_at)
    values ($1, $2, 0, 'applied', $3, $4, clock_timestamp())
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: settle
-- Record a dirty revision as applied: it was completed by hand, as in the file with checksum $2 (null: as recorded).
with settled as (
    update {table}
    set state = 'applied', error = null, checksum = coalesce($2, checksum), finished_at = clock_timestamp()
    where revision = any($1) and state <> 'applied'
    returning revision
)
select pg_notify('ledgergate', revision) from settled

-- name: has_entry_begun
-- Whether a message of several statements that failed had reached its write to the ledger, see `ENTRY_BEGINS`.
select exists (select from pg_catalog.pg_prepared_statements where name = 'ledgergate_entry')

-- name: create_schema
create schema if not exists {schema}
