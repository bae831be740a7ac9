#!/bin/bash
. "$(dirname "$0")/../common.sh"
# "db:setup": "npm run migrate && ..." was taken for golang-migrate: another table, another lock.
fresh r_nest; echo '{"private":true,"scripts":{"migrate":"knex migrate:latest","db:setup":"npm run migrate && echo seeded"}}' > package.json; table migrations/20240101_a.js a
"$LG" migrate exec --expect 20240101_a -- npm run db:setup; echo "exec rc=$?"; "$LG" migrate exec --dialect knex --expect 20240101_a -- npm run db:setup; echo "named rc=$?"
echo "golang-migrate's: $(sql "select to_regclass('schema_migrations')")."
