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
    error text
)

-- name: record
-- An applied migration, announced in the transaction that applied it; $6 is how long it took, in milliseconds.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, duration_ms, started_at, finished_at)
    values ($1, $2, $3, 'applied', $4, $5, $6::bigint, clock_timestamp() - $6::bigint * interval '1 ms', clock_timestamp())
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

-- name: begin
-- A migration that runs outside a transaction: written before its first statement.
with recorded as (
    insert into {table} (revision, checksum, batch, state, applied_by, compatible_from)
    values ($1, $2, $3, 'running', $4, $5)
    returning revision
)
select pg_notify('ledgergate', revision) from recorded

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
