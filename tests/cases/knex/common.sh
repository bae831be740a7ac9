# Needs: PGBASE (the server's URL, no database), LG (ledgergate), psql on PATH, and in KNEX a node_modules with knex 3 and pg.
set -u; PGBASE=${PGBASE:?the URL of a server}; LG=${LG:-ledgergate}; KNEX=${KNEX:?a node_modules with knex and pg}
server() { psql -XqAtd "$PGBASE/postgres" -c "$1" 2>/dev/null; }
fresh() { db=$1; server "drop database if exists $db with (force)"; server "create database $db"; export DATABASE_URL=$PGBASE/$db
  trap 'for job in $(jobs -p); do kill "$job" 2>/dev/null; done; server "drop database $db with (force)"' EXIT
  W=$(mktemp -d); cd "$W"; ln -s "$KNEX" node_modules; mkdir migrations; echo '{"private":true,"scripts":{"migrate":"knex migrate:latest"}}' > package.json
  echo 'module.exports = { client: "pg", connection: process.env.DATABASE_URL };' > knexfile.js; }
table() { mkdir -p "$(dirname "$1")"; echo "exports.up = k => k.schema.createTable('$2', t => t.increments()); exports.down = k => k.schema.dropTable('$2');" > "$1"; }
# Under a name of ledgergate, whose sessions run no tool: while a command creates its tables, `exec` takes the lock row for
# the command's only if no other session comes, and each look of a script is one.
sql() { PGAPPNAME="ledgergate case" psql -XqAtd "$DATABASE_URL" -c "$1"; }
# Wait until the command succeeds, a minute at most.
soon() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "waited in vain: $*"; exit 1; }
is() { [ "$(sql "select $1")" = t ]; }
