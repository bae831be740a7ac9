#!/bin/bash
. "$(dirname "$0")/../common.sh"
# A live Knex (CI job, laptop, app calling latest()) backfills outside a transaction. Expect 200; an exec that takes its lock away gives 400.
fresh r_live; table migrations/20240101_a.js a; npx --no-install knex migrate:latest
sql 'create table acc(id int, n int); insert into acc select g, 100 from generate_series(1, 20) g'
cat > migrations/20240102_double.js <<'JS'
const fs = require("fs");
exports.config = { transaction: false };
exports.up = async k => { for (let id = 1; id <= 20; id++) { await k('acc').where({ id }).update({ n: k.raw('n * 2') }); while (id == 10 && !fs.existsSync('go')) await new Promise(r => setTimeout(r, 20)); } };
exports.down = async () => {};
JS
node_modules/.bin/knex migrate:latest & k=$!
soon is "n = 200 from acc where id = 10"
"$LG" migrate exec --dialect knex --clear-stale-lock --expect all -- npx --no-install knex migrate:latest > log 2>&1 & p=$!
soon grep "waiting for its owner to free it" log; echo "locked: $(sql 'select is_locked from knex_migrations_lock')"
touch go; wait $p; echo "exec rc=$?"; wait $k; echo "knex rc=$?"; cat log
echo "n: $(sql 'select distinct n from acc')"; sql "select name || ' in batch ' || batch from knex_migrations order by id"
