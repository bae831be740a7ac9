#!/bin/bash
. "$(dirname "$0")/../common.sh"
# loadExtensions: ['.mjs'], as Knex's ESM guide shows.
fresh r_mjs; rm knexfile.js; echo 'export default { client: "pg", connection: process.env.DATABASE_URL, migrations: { loadExtensions: [".mjs"] } };' > knexfile.mjs
echo 'export const up = k => k.schema.createTable("a", t => t.increments()); export const down = k => k.schema.dropTable("a");' > migrations/20240101_a.mjs
npx --no-install knex migrate:latest; sql 'select name from knex_migrations'; echo "revision: $("$LG" migrate revision --dialect knex)"
"$LG" migrate wait --dialect knex --timeout 0; echo "wait rc=$?"
