-- How a script for psql records its migrations. {table} is the ledger's quoted, qualified name; the others are
-- literals.

-- name: insert
insert into {table} (revision, checksum, batch, state, applied_by, compatible_from, finished_at)
values ({revision}, {checksum}, {batch}, {state}, {applied_by}, {compatible_from}, case {state} when 'applied' then clock_timestamp() end);
notify ledgergate, {revision};

-- name: finish
update {table} set state = 'applied', finished_at = clock_timestamp() where revision = {revision};
notify ledgergate, {revision};
