-- The native ledger. {table} is its quoted, qualified name.

-- name: read
-- Every record; the order of the ledger is the order of names, as in the directory.
select revision, state, checksum, batch, compatible_from, error, started_at, finished_at, duration_ms, applied_by
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
-- Columns that ledgers of older versions lack: how far a migration has come that runs outside a transaction. Statements
-- 1 to `statements_done` of `statements_total` are committed; `statement_begun` cannot run in a transaction, and began.
alter table {table}
    add column if not exists statements_total integer,
    add column if not exists statements_done integer,
    add column if not exists statement_begun integer

-- name: extended
select count(*) = 3 from pg_catalog.pg_attribute
where attrelid = to_regclass($1) and not attisdropped
    and attname in ('statements_total', 'statements_done', 'statement_begun')

-- name: record
-- An applied migration, announced in the transaction that applied it. Where the guard does not hold, that
-- transaction is over: the revision is null then, which the table refuses.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, duration_ms, started_at, finished_at)
    values (
        case when {guard} then {revision} end, {checksum}, {batch}, 'applied', {applied_by}, {compatible_from},
        extract(epoch from clock_timestamp() - transaction_timestamp()) * 1000, transaction_timestamp(), clock_timestamp()
    )
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: begin
-- A migration that runs outside a transaction: written before its first statement.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, statements_total, statements_done)
    values ({revision}, {checksum}, {batch}, 'running', {applied_by}, {compatible_from}, $1, 0)
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: resume
-- The same, when it goes on where it was stopped.
with recorded as (
    update {table}
    set state = 'running', error = null, applied_by = {applied_by}, batch = {batch}, finished_at = null, duration_ms = null
    where revision = {revision} and state <> 'applied'
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: stopped
-- How far revision $1 had come.
select statements_total, statements_done, statement_begun from {table} where revision = $1

-- name: advance
-- So many statements are committed, or will be with this one.
update {table} set statements_done = {done}, statement_begun = null where revision = {revision}

-- name: expose
-- A statement of this number is about to begin; who finds this cannot know whether it ended.
update {table} set statement_begun = {begun} where revision = {revision}

-- name: finish
-- How it ended: state $2, error $3 (null when applied).
with recorded as (
    update {table}
    set state = $2,
        error = $3,
        finished_at = clock_timestamp(),
        duration_ms = extract(epoch from clock_timestamp() - started_at) * 1000
    where revision = $1
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: begin_undo
-- A migration that is undone outside a transaction, written before its first statement: by $2, marked by $3 as `error`.
with recorded as (
    update {table}
    set state = 'running', applied_by = $2, error = $3, started_at = clock_timestamp(), finished_at = null, duration_ms = null
    where revision = $1
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: remove
-- A migration that is undone, announced in the transaction that undid it.
with removed as (
    delete from {table} where revision = $1 returning revision
)
select pg_notify('ledgergate', revision) from removed

-- name: unrecord
-- The same in the transaction that undid it; see `record` for the guard, which makes the first of the two fail.
update {table} set revision = case when {guard} then revision end where revision = {revision};
with removed as (
    delete from {table} where revision = {revision} returning revision
)
select pg_notify('ledgergate', revision) from removed

-- name: baseline
-- A revision that is recorded and was never run here: batch 0, which no run has.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, finished_at)
    values ($1, $2, 0, 'applied', $3, $4, clock_timestamp())
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: settle
-- A dirty revision that was completed by hand, as the file with checksum $2 says (null: as recorded).
with settled as (
    update {table}
    set state = 'applied', error = null, checksum = coalesce($2, checksum), finished_at = clock_timestamp()
    where revision = $1 and state <> 'applied'
    returning revision
)
select pg_notify('ledgergate', revision) from settled

-- name: create_schema
create schema if not exists {schema}
