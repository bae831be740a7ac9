"""Histories of two files: what the first one makes, what the second one does, and what lint must say of it.

Each kind has at least four instances. PostgreSQL's part of the claims is compared in tests/integration.
"""

from __future__ import annotations

USERS = "create table users (id bigint primary key, email text not null, name varchar(40), at timestamp not null);"
DOMAINS = """
    create table users (id bigint primary key, n int);
    create domain positive as int default 1 check (value > 0);
    create domain required as text not null default '';
    create domain below as positive;
    create domain plain as int default 5;
    create domain shaky as int default (random() * 6)::int;
"""
PARTITIONS = """
    create table logs (at date not null, k int) partition by range (at);
    create table logs_2025 (at date not null, k int);
    create table lists (k int) partition by list (k);
    create table lists_1 (k int);
"""
DEFAULT_PARTITION = PARTITIONS + "create table logs_rest partition of logs default;"
LOCKS = """
    create table a (id bigint primary key); create table b (id bigint primary key);
    create table c (id bigint primary key, b_id bigint, n int);
    create table events (id bigint primary key, done boolean);
    alter table c add constraint c_fk foreign key (b_id) references b not valid;
    alter table c add constraint c_check check (n > 0) not valid;
    create materialized view totals as select 1 as one;
    create unique index totals_one on totals (one);
    create function f() returns trigger language plpgsql as 'begin return new; end';
    create trigger a_t before insert on a for each row execute function f();
"""

HAZARDS: list[tuple[str, str, str, str]] = [
    # ADD COLUMN IF NOT EXISTS leaves a known column as it is.
    (
        "add-column-if-not-exists",
        "create table jobs (total text); alter table jobs add column if not exists total bigint;",
        "alter table jobs alter column total type bigint using total::bigint;",
        "type-change",
    ),
    (
        "add-column-if-not-exists",
        USERS + "alter table users add column if not exists at timestamptz;",
        "alter table users alter column at type timestamptz;",
        "type-change",
    ),
    (
        "add-column-if-not-exists",
        "create table t (n numeric(8, 3)); alter table t add column if not exists n numeric(8, 2);",
        "alter table t alter n type numeric(8, 2);",
        "type-change",
    ),
    (
        "add-column-if-not-exists",
        "create table t (v int); do $$ begin alter table t add column if not exists v bigint; end $$;",
        "alter table t alter v type bigint;",
        "type-change",
    ),
    # The type keeps the rows, but not the indexes and CHECKs.
    (
        "index-rebuild",
        USERS + "create index on users (at);",
        "set local timezone = 'UTC'; alter table users alter at type timestamptz;",
        "type-change-dependents",
    ),
    (
        "index-rebuild",
        USERS + "create index on users (lower(name));",
        "alter table users alter name type text;",
        "type-change-dependents",
    ),
    (
        "index-rebuild",
        USERS + "create index on users (id) where name is not null;",
        "alter table users alter name type varchar(80);",
        "type-change-dependents",
    ),
    (
        "index-rebuild",
        USERS + "alter table users add constraint c check (name <> '');",
        "alter table users alter name type text;",
        "type-change-dependents",
    ),
    (
        "index-rebuild",
        USERS + "alter table users add constraint k unique (at);",
        "set local timezone = 'UTC'; alter table users alter at type timestamptz;",
        "type-change-dependents",
    ),
    # A domain with a constraint is checked for every row.
    ("domain", DOMAINS, "alter table users add column c positive;", "domain-column"),
    ("domain", DOMAINS, "alter table users add column c required;", "domain-column"),
    ("domain", DOMAINS, "alter table users add column c below;", "domain-column"),
    ("domain", DOMAINS, "alter table users add column c positive default null;", "domain-column"),
    ("domain", DOMAINS, "alter table users alter n type positive;", "type-change"),
    ("domain", DOMAINS, "alter table users add column c shaky;", "volatile-default"),
    # Work while another table is locked.
    ("lock-chain", LOCKS, "alter table a add column x int; alter table c validate constraint c_fk;", "work-under-lock"),
    ("lock-chain", LOCKS, "alter table a rename to d; alter table c validate constraint c_check;", "work-under-lock"),
    ("lock-chain", LOCKS, "drop trigger a_t on a; create table copy as select * from c;", "work-under-lock"),
    ("lock-chain", LOCKS, "alter table a drop constraint a_pkey; analyze c;", "work-under-lock"),
    (
        "lock-chain",
        LOCKS,
        "alter table a add column x int; refresh materialized view concurrently totals;",
        "work-under-lock",
    ),
    (
        "lock-chain",
        LOCKS,
        "create table copy as select * from c; alter table a add column x int; create index on copy (n);",
        "work-under-lock",
    ),
    # CREATE TABLE … REFERENCES and others keep a lock until the end.
    (
        "references",
        LOCKS,
        "create table notes (a_id bigint references a); update events set done = false where done is null;",
        "mixed-ddl-dml",
    ),
    (
        "references",
        LOCKS,
        "create table notes (a_id bigint, foreign key (a_id) references a); delete from events where done;",
        "mixed-ddl-dml",
    ),
    (
        "references",
        LOCKS,
        "create table notes (a_id bigint references a); insert into notes select id from b;",
        "mixed-ddl-dml",
    ),
    (
        "references",
        LOCKS,
        (
            "create table notes (a_id bigint); alter table notes add foreign key (a_id) references a; "
            "alter table c validate constraint c_check;"
        ),
        "work-under-lock",
    ),
    ("references", LOCKS, "drop table a; update events set done = true where id = 1;", "mixed-ddl-dml"),
    # A partition is scanned where no CHECK proves its bounds.
    (
        "attach",
        PARTITIONS,
        "alter table logs attach partition logs_2025 for values from ('2025-01-01') to ('2026-01-01');",
        "partition-scan",
    ),
    (
        "attach",
        PARTITIONS
        + "alter table logs_2025 add constraint c check (at >= '2025-01-01' and at < '2026-01-01') not valid;",
        "alter table logs attach partition logs_2025 for values from ('2025-01-01') to ('2026-01-01');",
        "partition-scan",
    ),
    (
        "attach",
        PARTITIONS + "alter table logs_2025 add constraint c check (at >= '2024-01-01' and at < '2026-01-01');",
        "alter table logs attach partition logs_2025 for values from ('2025-01-01') to ('2026-01-01');",
        "partition-scan",
    ),
    ("attach", PARTITIONS, "alter table lists attach partition lists_1 for values in (1);", "partition-scan"),
    (  # a CHECK passes NULL, and the bounds do not
        "attach",
        PARTITIONS + "alter table lists_1 add constraint c check (k in (1));",
        "alter table lists attach partition lists_1 for values in (1);",
        "partition-scan",
    ),
    (
        "attach",
        DEFAULT_PARTITION,
        (
            "create table logs_2026 (at date not null, k int); "
            "alter table logs attach partition logs_2026 for values from ('2026-01-01') to ('2027-01-01');"
        ),
        "partition-scan",
    ),
    (
        "attach",
        DEFAULT_PARTITION,
        "create table logs_2026 partition of logs for values from ('2026-01-01') to ('2027-01-01');",
        "partition-scan",
    ),
    # PRIMARY KEY USING INDEX over columns that may be NULL.
    (
        "primary-key",
        "create table t (id bigint); create unique index i on t (id);",
        "alter table t add constraint t_pkey primary key using index i;",
        "not-null-scan",
    ),
    (
        "primary-key",
        "create table t (id bigint not null, k int); create unique index i on t (id, k);",
        "alter table t add primary key using index i;",
        "not-null-scan",
    ),
    (
        "primary-key",
        "create table t (id bigint not null); alter table t alter id drop not null; create unique index i on t (id);",
        "alter table t add primary key using index i;",
        "not-null-scan",
    ),
    (
        "primary-key",
        (
            "create table t (id bigint); alter table t add constraint c check (id is not null) not valid; "
            "create unique index i on t (id);"
        ),
        "alter table t add primary key using index i;",
        "not-null-scan",
    ),
    # A WHERE that may be true for any number of rows.
    ("bulk", USERS, "update users set name = '' where name is null;", "bulk-write"),
    ("bulk", USERS, "delete from users where at < now() - interval '90 days';", "bulk-write"),
    ("bulk", USERS, "update users u set name = o.name from users o where o.email = u.email;", "bulk-write"),
    ("bulk", USERS, "update users set name = '' where true;", "bulk-write"),
    ("bulk", USERS, "delete from users where email like '%@example.com' or id = 1;", "bulk-write"),
    ("bulk", USERS, "delete from users where id in (select id from users where name is null);", "bulk-write"),
    # What older images need.
    (
        "drop-default",
        "create table t (k text not null default 'a');",
        "alter table t alter k drop default;",
        "drop-without-contract",
    ),
    ("drop-default", "create table t (id bigserial);", "alter table t alter id drop default;", "drop-without-contract"),
    (
        "drop-default",
        "create table t (id bigint generated by default as identity);",
        "alter table t alter id drop identity;",
        "drop-without-contract",
    ),
    (
        "drop-default",
        "create table t (id bigint);",
        "alter table t add column k int not null default 0; alter table t alter k drop default;",
        "drop-without-contract",
    ),
    (
        "drop-function",
        "create function price(bigint) returns numeric language sql stable as 'select 1::numeric';",
        "drop function price(bigint);",
        "drop-without-contract",
    ),
    ("drop-function", "create procedure p() language sql as 'select 1';", "drop procedure p;", "drop-without-contract"),
    ("drop-function", "select 1;", "drop routine if exists of_another_tool;", "drop-without-contract"),
    (
        "drop-function",
        "create aggregate total(int) (sfunc = int4pl, stype = int);",
        "drop aggregate total(int);",
        "drop-without-contract",
    ),
    ("drop-trigger", LOCKS, "drop trigger a_t on a;", "drop-without-contract"),
    ("drop-trigger", LOCKS, "drop trigger if exists of_another_tool on a;", "drop-without-contract"),
    ("drop-trigger", LOCKS, "do $$ begin drop trigger a_t on a; end $$;", "drop-without-contract"),
    ("drop-trigger", LOCKS, "drop function f() cascade;", "drop-without-contract"),
    ("cascade", LOCKS, "alter table a drop constraint a_pkey cascade;", "drop-without-contract"),
    (
        "cascade",
        "create view v as select 1 as one;",
        "drop view v cascade; create view v as select 1 as one;",
        "drop-without-contract",
    ),
    (
        "cascade",
        "create function g() returns int language sql as 'select 1';",
        "drop function g() cascade; create function g() returns int language sql as 'select 1';",
        "drop-without-contract",
    ),
    ("cascade", "create extension citext;", "drop extension citext cascade;", "drop-without-contract"),
    ("cascade", "create sequence s;", "drop sequence s cascade;", "drop-without-contract"),
]
"""Kind, what the first file makes, what the second one does, and the rule that it breaks."""

_SWAP = "create type mood as enum ('glad', 'sad'); create table users (id bigint primary key, mood mood);"
MANY_REASONS: list[tuple[str, str, list[str]]] = [
    (
        _SWAP,
        (
            "create type mood_new as enum ('glad'); "
            "alter table users alter mood type mood_new using mood::text::mood_new; "
            "alter type mood rename to mood_old; alter type mood_new rename to mood; drop type mood_old;"
        ),
        ["type-change"],
    ),
    (
        _SWAP,
        (
            "alter type mood rename to mood_old; create type mood as enum ('glad'); "
            "alter table users alter mood type mood using mood::text::mood; drop type mood_old;"
        ),
        ["type-change"],
    ),
    (
        _SWAP,
        (
            'alter type "mood" rename to "mood__old"; create type "mood" as enum (\'glad\'); '
            "alter table users alter mood type text; alter table users alter mood type mood using mood::mood; "
            'drop type "mood__old";'
        ),
        ["type-change", "type-change"],
    ),
    (_SWAP, "alter type mood rename to mood_old; create type mood as enum ('glad');", []),
]
"""Swaps of enums, with the rules that they break."""

NOT_BULK = [
    "id = 1",
    "id in (1, 2, 3)",
    "id between 1 and 1000",
    "id > 10 and id <= 20 and kind is null",
    "email = 'a@example.com'",
    "email = any(array['a', 'b'])",
    "kind = 'old' and done",
    "id in (select id from users where done limit 1000)",
    "id = (select max(id) from users)",
    "ctid = any(array(select ctid from users limit 100))",
]

_NODES = "create table nodes (id bigint primary key, parent bigint, other bigint);"
SELF_REFERENCES: list[tuple[str, str, str]] = [
    (_NODES, "alter table nodes add constraint f foreign key (parent) references nodes;", "foreign-key-not-valid"),
    (
        _NODES,
        "alter table nodes add column up bigint not null default 1 references nodes;",
        "foreign-key-not-valid",
    ),
    (
        _NODES,
        'alter table "nodes" add foreign key (parent) references public."nodes" (id);',
        "foreign-key-not-valid",
    ),
    (
        _NODES,
        "do $$ begin alter table nodes add foreign key (parent) references nodes; end $$;",
        "foreign-key-not-valid",
    ),
    (_NODES, "alter table nodes add foreign key (parent) references nodes not valid;", "short-lock"),
    (_NODES, "truncate nodes, nodes;", "truncate"),
]
"""What the first file makes, a statement that names one table twice, and the rule that it breaks."""
