-- What the native ledger takes over from another tool's. {table} is its own quoted, qualified name.

-- name: adopt
-- Record revisions that ledgergate never ran: batch 0, which no run has. The arguments are arrays of the same length:
-- names, checksums, compatible_from, when each was applied (null: not known), and who applied it.
with recorded as (
    insert into {table} (revision, checksum, batch, state, compatible_from, started_at, finished_at, applied_by)
    select
        adopted.revision,
        adopted.checksum,
        0,
        'applied',
        adopted.compatible_from,
        coalesce(adopted.finished_at, clock_timestamp()),
        coalesce(adopted.finished_at, clock_timestamp()),
        adopted.applied_by
    from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
        as adopted (revision, checksum, compatible_from, finished_at, applied_by)
    returning revision
)
select pg_notify('ledgergate', max(revision)) from recorded
