. "$(dirname "$0")/../lib.sh"
echo "want: one row, the second run waits; got:"; q "create table gate (n int)" >/dev/null
up > one.log 2>&1 & soon is "exists (select from pg_stat_activity where query like '%from gate%' and pid <> pg_backend_pid())"
ledgergate migrate status | tail -2 | cut -c1-80; up > two.log 2>&1 & soon grep "waiting for the lock" two.log
q "insert into gate values (1)" >/dev/null; wait; cat one.log two.log; q "select count(*) from effects"
