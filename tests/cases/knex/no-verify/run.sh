#!/bin/bash
. "$(dirname "$0")/../common.sh"
# node-postgres's own sslmode; the server has a certificate that nobody trusts.
fresh r_ssl; table migrations/20240101_a.js a; table migrations/20240102_b.js b; plain=$DATABASE_URL; export DATABASE_URL="$DATABASE_URL?sslmode=no-verify"
npx --no-install knex migrate:up
"$LG" migrate exec --dialect knex --expect all -- npx --no-install knex migrate:latest; echo "exec rc=$?"
DATABASE_URL=$plain; sql 'select name from knex_migrations order by id'
