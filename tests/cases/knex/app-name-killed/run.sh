#!/bin/bash
. "$(dirname "$0")/../common.sh"
# exec is killed; the knexfile sets application_name, so Knex's session carries no mark, and its statement goes on in the server.
# Expect 200; taking the session for nobody's and running again beside it gives 400.
fresh r_app; echo 'module.exports = { client: "pg", connection: { connectionString: process.env.DATABASE_URL, application_name: "billing" } };' > knexfile.js
sql 'create table acc(n int); insert into acc values (100); create table gate(n int)'
cat > migrations/20240102_double.js <<'JS'
const SQL = "do $$ begin while not exists (select from gate) loop perform pg_sleep(0.05); end loop; update acc set n = n * 2; end $$";
exports.config = { transaction: false };
exports.up = k => k.raw(SQL);
exports.down = async () => {};
JS
"$LG" migrate exec --dialect knex --expect all -- npx --no-install knex migrate:latest & p=$!
soon is "exists (select from pg_stat_activity where application_name = 'billing' and state = 'active' and query like 'do %from gate%')"
soon is "lock_version is not null from ledgergate_exec"
kill -9 $p; wait $p 2>/dev/null
"$LG" migrate exec --dialect knex --clear-stale-lock --expect all -- npx --no-install knex migrate:latest > log 2>&1 & p=$!
soon grep "whose command may live for another" log
echo "statements of the killed run: $(sql "select count(*) from pg_stat_activity where application_name = 'billing'")"
sql "update ledgergate_exec set seen_at = seen_at - interval '1 minute'" # as if a minute had passed
soon grep "freed the row lock" log; sql 'insert into gate values (1)'
wait $p; echo "exec rc=$?"; cat log; echo "n: $(sql 'select n from acc')"; sql "select name || ' in batch ' || batch from knex_migrations"
echo "locked: $(sql 'select is_locked from knex_migrations_lock')"
