-- How a script for psql records its migrations. {table} is the ledger's quoted, qualified name; the others are
-- literals, or numbers.

-- name: record
-- As `record` in ledgergate.sql: null, which the table refuses, where the migration has ended the transaction.
insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, duration_ms, started_at, finished_at)
values (
    case when current_setting('transaction_deferrable')::boolean then {revision} end, {checksum}, {batch}, 'applied',
    {applied_by}, {compatible_from}, extract(epoch from clock_timestamp() - transaction_timestamp()) * 1000,
    transaction_timestamp(), clock_timestamp()
);
notify ledgergate, {revision};

-- name: begin
-- Without the number of statements: a script records no progress, so `up` must not continue by it.
insert into {table} (revision, checksum, batch, state, applied_by, compatible_from)
values ({revision}, {checksum}, {batch}, 'running', {applied_by}, {compatible_from});
notify ledgergate, {revision};

-- name: finish
update {table}
set state = 'applied',
    finished_at = clock_timestamp(),
    duration_ms = extract(epoch from clock_timestamp() - started_at) * 1000,
    statements_total = {statements},
    statements_done = {statements}
where revision = {revision};
notify ledgergate, {revision};
