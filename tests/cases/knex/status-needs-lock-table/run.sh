#!/bin/bash
. "$(dirname "$0")/../common.sh"
# docs/dialects.md: "The role needs USAGE on the schema and SELECT on the table". status wanted the lock's table, too; wait does not.
fresh r_ro; table migrations/20240101_a.js a; npx --no-install knex migrate:latest; server "create role r_ro login password 'r'"; sql 'grant select on knex_migrations to r_ro'
export DATABASE_URL=postgresql://r_ro:r@${PGBASE#*@}/$db; echo "may read the lock: $(sql "select has_table_privilege('knex_migrations_lock', 'select')")"
"$LG" migrate wait --dialect knex --timeout 0; echo "wait rc=$?"; "$LG" migrate status --dialect knex; echo "status rc=$?"
