#!/bin/bash
. "$(dirname "$0")/../common.sh"
# knexfile with directory: [core, shop]. The last --dir silently won, and a pending file of the other was never applied, exit 0.
fresh r_dirs; echo 'module.exports = { client: "pg", connection: process.env.DATABASE_URL, migrations: { directory: ["./core", "./shop"] } };' > knexfile.js
table core/20240301_c.js c; table shop/20240201_b.js b; npx --no-install knex migrate:latest; table shop/20240401_late.js late
echo "revision: $("$LG" migrate revision --dialect knex --dir shop --dir core)"
"$LG" migrate exec --dialect knex --dir shop --dir core --expect all -- npx --no-install knex migrate:latest; echo "exec rc=$?"; npx --no-install knex migrate:list | tail -2
echo "tables: $(sql "select string_agg(tablename, ' ' order by tablename) from pg_tables where tablename in ('b', 'c', 'late')")"
