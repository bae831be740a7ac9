"""Migrations in which what psql does with a script may differ from what `up` does.

Each migration begins with a line `--- OPTIONS`. ROLE is a role without rights, OWNER one that owns a schema of its own
name.
"""

from __future__ import annotations

SAME: dict[str, str] = {
    "search path": """
---
create schema app; set search_path = app; create table a (id int)
---
create table b ()
""",
    "search path by function": """
---
SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
create table public.a ()
---
create table b ()
""",
    "search path of the session": """
---
create schema app; set session search_path to app, public;
--- transaction:false
create table b ()
""",
    "local role": """
---
set local role ROLE; select 1
---
create table b ()
""",
    "role": """
---
set role OWNER; create table OWNER.a ()
---
create table b ()
""",
    "role, outside a transaction": """
--- transaction:false
set role OWNER; create table OWNER.a ();
--- transaction:false
create table b ()
""",
    "session authorization": """
---
set session authorization OWNER; create table OWNER.a ()
---
create table b ()
""",
    "session authorization, outside a transaction": """
--- transaction:false
set session authorization OWNER; create table OWNER.a ()
---
create table b ()
""",
    "temporary table": """
---
create temp table t as select 1; create table a ()
---
create table t (id int)
---
insert into t values (2)
""",
    "prepared statement": """
---
prepare p as select 1
---
prepare p as select 2; create table a as execute p
""",
    "cursor": """
---
declare c cursor with hold for select 1
--- transaction:false
declare c cursor with hold for select 2
""",
    "settings": """
---
set default_with_oids = off; set check_function_bodies = off; set row_security = off
---
create table a as select current_setting('check_function_bodies')
""",
    "time zone": """
---
set time zone 'Asia/Tokyo'; set datestyle = 'German'
---
create table a as select now()::date::text = to_char(now() at time zone 'UTC', 'YYYY-MM-DD')
""",
    "access method and template of names": """
---
set default_tablespace = ''; set default_table_access_method = heap; create table a ()
---
create table b ()
""",
    "no semicolon, a comment": """
---
create table a (id int) -- the last
---
create table b () /* ; */
""",
    "semicolons alone": """
---
;;create table a ();;;
--- transaction:false
create table b ();--
""",
    "blanks beyond ASCII": """
---
create table a (id int) ; -- \u00a0\u2028
""",
    "names of variables of psql": """
---
create table a as select (array[1,2,3])[1:"HOST"] as x from (select 2) as t ("HOST")
""",
    "slices with names of variables": """
---
create table a as select (array[1,2,3])[lo:ENCODING] as x from (select 1, 2) as t (lo, encoding)
--- transaction:false
create table b as select (array[1,2,3])[lo:t.hi] from (select 1, 2) as t (lo, hi)
""",
    "colons": """
---
create table a as select 1::int as x, ':USER' as ":HOST", $$:PORT$$ as z; -- :USER
---
create function f(a int) returns int language sql as 'select $1'; create table b as select f(a := 1)
""",
    "strings as of old": """
---
set standard_conforming_strings = off; create table a as select 'C:\\temp' as x
""",
    "strings as of old, to the end of the session": """
---
select set_config('standard_conforming_strings', 'off', false);
create table a as select 'a\\\\b;' as x;
create table b ()
""",
    "strings as of old around COPY": """
---
set standard_conforming_strings = off; create table a (x text); copy a from stdin;
x;\\\\y
\\.
create table b as select 'a\\b;' as x
""",
    "another encoding": """
---
set client_encoding = 'LATIN1'; create table a as select 'é' as x; comment on table a is 'ü;'
---
create table b as select 'é' as x
""",
    "another encoding by name": """
---
set names 'LATIN1'; create table a as select 'é;' as x
---
comment on table a is 'é'
""",
    "line ends": """
---
create function f() returns text language sql as $$\r
 select 'a\r
b' -- c\r
$$;\r
create table a (id int); -- x\rcreate table b ()
""",
    "text that looks like ours": """
---
create table a as select E'\\ncommit;\\nbegin;' as x, $$
;
commit;
$$ as y, '
\\connect x
' as z
""",
    "function with statements": """
---
create function f() returns int begin atomic select 1; select 2; end;
create table a ()
""",
    "rule with statements": """
---
create table a (id int); create table b (id int);
create rule r as on insert to a do also (insert into b values (1); insert into b values (2));
""",
    "rows of COPY": """
---
create table a (x text, y text);
copy a from stdin;
1\tit's; -- \\N
\\N\tü € \\\\;
\\.
create table b ()
--- transaction:false
copy a from stdin with (format csv);
"a
b",c
\\.
select 1
""",
    "no rows of COPY": """
---
create table a (x text);
copy a from stdin;
\\.
""",
    "own transactions": """
--- transaction:false
begin; create table a (id int); commit; begin; create table b (id int); rollback; create table c ()
""",
    "what needs a transaction": """
--- transaction:false
create table a (id int); lock table a; declare c cursor for select 1; create table b ()
--- transaction:false
begin; lock table a; create table c (); commit
""",
    "concurrently": """
--- transaction:false
create table a (id int); create index concurrently i on a (id); drop index concurrently i
--- transaction:false
create index concurrently j on a (id); vacuum a
""",
    "a procedure that commits": """
--- transaction:false
create table a (id int);
create procedure p() language plpgsql as $$ begin insert into a values (1);
commit;
insert into a values (2);
end $$;
call p();
call p()
""",
    "discard all": """
--- transaction:false
create temp table t (); set role OWNER; discard all; create table a ()
---
create table t ()
""",
    "reset all": """
---
set search_path = pg_catalog; reset all; create table a as select 'é' as x
""",
    "listen and locks": """
---
listen x; select pg_advisory_lock(1), pg_advisory_xact_lock(2)
---
create table a as select count(*) from pg_listening_channels();
create table b as select count(*) from pg_locks
where locktype = 'advisory' and pid = pg_backend_pid() and classid = 0 and objid in (1, 2)
""",
    "sequence of the session": """
---
create sequence s; select nextval('s'), nextval('s')
---
select nextval('s'); create table a as select lastval()
""",
    "privileges by default": """
---
alter default privileges for role OWNER grant select on tables to ROLE;
set role OWNER;
create table OWNER.a ()
---
create table b ()
""",
    "deferred": """
---
create table a (id int primary key deferrable initially deferred);
insert into a values (1), (2);
update a set id = 3 - id;
set constraints all immediate
""",
    "contract": """
---
create table a (id int)
--- contract compatible-from:20250101000000_m
drop table a
""",
    "the ledger out of reach": """
---
set local role ROLE; set local search_path = pg_temp; select 1
---
create table "it's" ("a""b" text default E'\\'')
""",
    "session settings at the end": """
--- transaction:false
set default_transaction_read_only = on
---
create table a ()
""",
}

FAIL: dict[str, str] = {
    "an open string": """
---
create table a ()
---
create table b (); select 'x
""",
    "an open name": """
---
create table a ()
---
create table b (); select "x
""",
    "an open dollar quote": """
---
create table a ()
---
create table b (); select $a$ x $$
""",
    "an open comment": """
---
create table a ()
---
create table b (); /* x /* */
""",
    "an open parenthesis": """
---
create table a ()
---
create table b (); create table c (
---
create table d ()
""",
    "one parenthesis too many": """
---
create table a ()
---
create table b (); create table c ())
""",
    "an error at the end": """
---
create table a ()
---
create table b (); select 1/0
---
create table d ()
""",
    "a deferred constraint": """
---
create table a (id int primary key deferrable initially deferred)
---
insert into a values (1), (1)
""",
    "no rights": """
---
create table a ()
---
set role ROLE; create table OWNER.b ()
""",
    "the ledger is dropped": """
---
create table a ()
---
drop table ledgergate_migrations
""",
}
