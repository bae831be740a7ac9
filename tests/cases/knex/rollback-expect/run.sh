#!/bin/bash
. "$(dirname "$0")/../common.sh"
# With LEDGERGATE_EXPECT in the pod (as docs put it), a rollback was not run, exit 0.
fresh r_roll; table migrations/20240101_a.js a; npx --no-install knex migrate:latest; export LEDGERGATE_EXPECT=$("$LG" migrate revision --dialect knex)
"$LG" migrate exec --dialect knex -- npx --no-install knex migrate:rollback; echo "exec rc=$?"; echo "rows: $(sql 'select count(*) from knex_migrations'), table: $(sql "select to_regclass('a')")."
