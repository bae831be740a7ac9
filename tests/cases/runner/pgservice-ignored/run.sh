. "$(dirname "$0")/../lib.sh"
u=${A#*://}; user=${u%%:*}; u=${u#*:}; pass=${u%%@*}; hp=${u#*@}
psql -Xq "$A/postgres" -c "drop database if exists case_wrong with (force)" -c "create database case_wrong" 2>/dev/null
printf '[shop]\nhost=%s\nport=%s\nuser=%s\npassword=%s\ndbname=%s\n' "${hp%%:*}" "${hp##*:}" "$user" "$pass" "$db" > .pg_service.conf
e="env -u DATABASE_URL HOME=$work PGSERVICE=shop PGHOST=${hp%%:*} PGPORT=${hp##*:} PGUSER=$user PGPASSWORD=$pass PGDATABASE=case_wrong"
echo "psql goes to: $($e psql -XAtc 'select current_database()')"; $e ledgergate migrate up
echo "ledger in the service's database: $(q "select to_regclass('ledgergate_migrations')"); in the other: $(psql -XAt "$A/case_wrong" -c "select to_regclass('ledgergate_migrations')")"
psql -Xq "$A/postgres" -c "drop database case_wrong"
