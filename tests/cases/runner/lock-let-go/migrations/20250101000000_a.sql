-- migrate:up transaction:false
create table effects (run text);
discard all;
do $$ begin while not exists (select from gate) loop perform pg_sleep(0.05); end loop; end $$;
insert into effects values (now()::text);
