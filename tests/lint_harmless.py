"""Histories of two files in which the second one does no harm, so that lint must say nothing of it."""

from __future__ import annotations

from tests.lint_histories import DEFAULT_PARTITION, DOMAINS, LOCKS, PARTITIONS, USERS

HARMLESS: list[tuple[str, str, str]] = [
    ("index-known", USERS + "create index i on users (email);", "create index if not exists i on users (email);"),
    ("index-known", USERS + "create unique index i on users (email);", "create index if not exists i on users (name);"),
    (
        "index-known",
        USERS + "create index i on users (email); alter index i rename to j;",
        "create index if not exists j on users (email);",
    ),
    (
        "index-known",
        USERS + "create index on users (email);",
        "create index if not exists users_email_idx on users (email);",
    ),
    ("serial", "create table t (n serial);", "alter table t alter n type integer;"),
    ("serial", "create table t (n bigserial);", "alter table t alter n type bigint;"),
    ("serial", "create table t (n smallserial);", "alter table t alter n type int2;"),
    ("serial", "create table t (n serial8);", "alter table t alter n type int8;"),
    ("not-null", USERS, "alter table users alter email set not null;"),
    ("not-null", USERS, "alter table users alter id set not null;"),
    ("not-null", "create table t (n serial);", "alter table t alter n set not null;"),
    ("not-null", "create table t (a int, b int, primary key (a, b));", "alter table t alter b set not null;"),
    ("not-null", "create table t (n int generated always as identity);", "alter table t alter n set not null;"),
    ("exists", USERS, "alter table users add column if not exists name uuid not null default gen_random_uuid();"),
    ("exists", USERS, "create table if not exists users (id serial);"),
    ("exists", USERS + "drop table users;", "drop table if exists users;"),
    ("exists", USERS + "create index i on users (at); drop index i;", "drop index if exists i;"),
    ("exists", USERS, "alter table users drop column if exists gone;"),
    ("exists", "select 1;", "drop table if exists fresh; create table fresh (id bigint);"),
    (
        "exists",
        "create function g() returns int language sql as 'select 1'; drop function g();",
        "drop function if exists g();",
    ),
    ("name-kept", USERS, "alter table users rename to people; create view users as select * from people;"),
    ("name-kept", USERS, "alter table users rename to people; create view users as select id, name from people;"),
    ("name-kept", "create view v as select 1 as one;", "drop view v; create view v as select 1 as one, 2 as two;"),
    ("name-kept", "create view v as select 1 as one;", "alter view v rename to w; create view v as select 1 as one;"),
    (
        "name-kept",
        USERS,
        (
            "create table users_new (id bigint primary key); alter table users rename to users_old; "
            "alter table users_new rename to users;"
        ),
    ),
    (
        "name-kept",
        LOCKS,
        "drop trigger a_t on a; create trigger a_t before update on a for each row execute function f();",
    ),
    (
        "name-kept",
        "create function g() returns int language sql as 'select 1';",
        "drop function g(); create function g() returns bigint language sql as 'select 1::bigint';",
    ),
    (
        "default-kept",
        "create table t (k int not null default 1);",
        "alter table t alter k drop default, alter k set default 2;",
    ),
    ("default-kept", "create table t (k int default 1);", "alter table t alter k drop default;"),
    ("default-kept", "create table t (k int not null);", "alter table t alter k drop default;"),
    (
        "default-kept",
        "create table t (id serial);",
        "alter table t alter id drop default; alter table t alter id add generated always as identity;",
    ),
    ("domain", DOMAINS, "alter table users add column c plain;"),
    ("domain", DOMAINS, "alter table users add column c positive[];"),
    ("domain", DOMAINS, "alter table users alter n type plain;"),
    (
        "attach",
        PARTITIONS + "alter table logs_2025 add constraint c check (at >= '2025-01-01' and at < '2026-01-01');",
        "alter table logs attach partition logs_2025 for values from ('2025-01-01') to ('2026-01-01');",
    ),
    (
        "attach",
        PARTITIONS + "alter table lists_1 add constraint c check (k in (1)), alter k set not null;",
        "alter table lists attach partition lists_1 for values in (1);",
    ),
    (  # the bounds pass NULL too
        "attach",
        PARTITIONS + "alter table lists_1 add constraint c check (k in (1));",
        "alter table lists attach partition lists_1 for values in (1, null);",
    ),
    (
        "attach",
        PARTITIONS,
        (
            "create table logs_2026 (at date not null, k int); "
            "alter table logs attach partition logs_2026 for values from ('2026-01-01') to ('2027-01-01');"
        ),
    ),
    (
        "attach",
        DEFAULT_PARTITION
        + "alter table logs_rest add constraint c check (not (at >= '2026-01-01' and at < '2027-01-01'));",
        (
            "create table logs_2026 (at date not null, k int); "
            "alter table logs attach partition logs_2026 for values from ('2026-01-01') to ('2027-01-01');"
        ),
    ),
    ("types", USERS + "create index on users (name);", "alter table users alter name type text;"),
    (
        "types",
        USERS + "alter table users add constraint c check (name <> '') not valid;",
        "alter table users alter name type text;",
    ),
    (
        "primary-key",
        "create table t (id bigint, constraint c check (id is not null) not valid); create unique index i on t (id);",
        "alter table t add primary key using index i;",
    ),
    (
        "primary-key",
        "create table t (id bigint not null); create unique index i on t (id);",
        "alter table t add primary key using index i;",
    ),
]
"""Kind, what the first file makes, and what the second one does without harm."""
