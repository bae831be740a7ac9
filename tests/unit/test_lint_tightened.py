"""What a statement forbids that pods of older images may still do: types, constraints and rights."""

from __future__ import annotations

import pytest

from migrations.lint.rule import Level
from tests.lint_files import reasons, up

BEFORE = up(
    """
    create type mood as enum ('calm');
    create table t (
        id bigint primary key, a int, b int not null, c int default 1, v varchar(10), s text, n numeric(8, 2),
        k bigint, at timestamp, j json, ch char(3), bits bit(3), tags int[], r real, net cidr, mail text, e mood
    );
    create table q (id bigint primary key);
    create unique index t_mail on t (mail);
    alter table t add constraint s_filled check (s is not null) not valid;
    alter table t add constraint k_apart check (k > 0 or k < -9) not valid;
    create domain positive as int;
    create function f() returns int language sql as 'select 1';
    create schema side;
    create policy p on t;
    """
)
NARROW, CONSTRAINT, REVOKE, MAY = (
    "narrow-without-contract",
    "constraint-without-contract",
    "revoke-without-contract",
    "may-need-contract",
)
RULES = {NARROW, CONSTRAINT, REVOKE, MAY, "not-null-without-default"}
BREAKS = [
    # Another family, or a narrower type of the same one.
    (NARROW, "alter table t alter a type text"),
    (NARROW, "alter table t alter a type smallint"),
    (NARROW, "alter table t alter k type int"),
    (NARROW, "alter table t alter a type numeric"),
    (NARROW, "alter table t alter a type boolean using a > 0"),
    (NARROW, "alter table t alter v type varchar(5)"),
    (NARROW, "alter table t alter s type varchar(5)"),
    (NARROW, "alter table t alter s type uuid using s::uuid"),
    (NARROW, "alter table t alter s type jsonb using to_jsonb(s)"),
    (NARROW, "alter table t alter v type char(10)"),
    (NARROW, "alter table t alter n type numeric(7, 2)"),
    (NARROW, "alter table t alter n type numeric(8, 3)"),
    (NARROW, "alter table t alter n type numeric(10, 1)"),
    (NARROW, "alter table t alter at type date"),
    (NARROW, "alter table t alter bits type bit(5)"),
    (NARROW, "alter table t alter tags type int"),
    (NARROW, "alter table t alter tags type smallint[]"),
    (NARROW, "alter table t alter e type text"),
    (NARROW, "do $$ begin alter table t alter a type text; end $$"),
    # NULL, where neither a default nor an earlier constraint is known.
    (CONSTRAINT, "alter table t alter a set not null"),
    (CONSTRAINT, "alter table t alter unheard_of set not null"),
    (CONSTRAINT, "alter table nobody_knows alter a set not null"),
    (CONSTRAINT, "alter table t add constraint a_filled check (a is not null) not valid"),
    (CONSTRAINT, "alter table t add constraint both_filled check (a is not null and s is not null) not valid"),
    (CONSTRAINT, "alter table t add constraint a_filled not null a"),
    (CONSTRAINT, "alter table t add primary key using index t_mail"),
    # Other constraints.
    (CONSTRAINT, "alter table t add constraint positive check (a > 0) not valid"),
    (CONSTRAINT, "alter table t add constraint two check (a > 0 and s is not null) not valid"),
    (
        CONSTRAINT,
        "alter table t add column d int; alter table t add constraint either check (d > 0 or a > 0) not valid",
    ),
    (CONSTRAINT, "alter table t add unique (v)"),
    (CONSTRAINT, "alter table t add primary key (a)"),
    (CONSTRAINT, "create unique index concurrently i on t (v)"),
    (CONSTRAINT, "create unique index i on t (lower(v))"),
    (CONSTRAINT, "create unique index i on t (v) where a > 0"),
    (CONSTRAINT, "alter table t add column d int default 0; create unique index i on t (d)"),
    (CONSTRAINT, "alter table t add exclude using gist (a with =)"),
    (CONSTRAINT, "alter domain positive add constraint p check (value > 0) not valid"),
    (CONSTRAINT, "alter domain positive set not null"),
    # Certain: no older image knows the column.
    ("not-null-without-default", "alter table t add column d int; alter table t alter d set not null"),
    ("not-null-without-default", "alter table t add column d int, alter d set not null"),
    (
        "not-null-without-default",
        """alter table t add column d int; update t set d = 1 where id < 5;
        alter table t add constraint x check (d is not null)""",
    ),
    (
        "not-null-without-default",
        "alter table t add column d int default 1, alter d drop default, alter d set not null",
    ),
    # Rights.
    (REVOKE, "revoke select on t from app"),
    (REVOKE, "revoke all on t from public"),
    (REVOKE, "revoke insert (a), update (b) on t from app"),
    (REVOKE, "revoke usage on schema side from app"),
    (REVOKE, "revoke execute on function f() from public"),
    (REVOKE, "revoke select on all tables in schema side from app"),
    (REVOKE, "revoke writers from app"),
    (REVOKE, "drop role app"),
    (REVOKE, "alter table t enable row level security"),
    (REVOKE, "alter table t force row level security"),
    (REVOKE, "alter table t owner to other"),
    (REVOKE, "drop policy p on t"),
    # What seldom breaks one.
    (MAY, "alter table t add constraint f foreign key (a) references q not valid"),
    (MAY, "alter table t alter id add generated always as identity"),
    (MAY, "drop index concurrently t_mail"),
    (MAY, "alter table t drop constraint t_pkey"),
]
FITS = [
    # Wider types of the same family.
    "alter table t alter a type bigint",
    "alter table t alter v type varchar(20)",
    "alter table t alter v type text",
    "alter table t alter s type varchar",
    "alter table t alter ch type text",
    "alter table t alter n type numeric(10, 2)",
    "alter table t alter n type numeric(12, 4)",
    "alter table t alter n type numeric",
    "alter table t alter at type timestamptz",
    "alter table t alter j type jsonb",
    "alter table t alter r type double precision",
    "alter table t alter net type inet",
    "alter table t alter tags type bigint[]",
    'alter table t alter s type text collate "C"',
    "alter table t alter unheard_of type text",
    "alter table t add column d int; alter table t alter d type text",
    "alter type mood add value 'glad'",
    """create type mood_new as enum ('glad'); alter table t alter e type mood_new using e::text::mood_new;
    alter type mood rename to mood_old; alter type mood_new rename to mood; drop type mood_old""",
    # NOT NULL that refuses nothing new, or that a default satisfies.
    "alter table t alter b set not null",
    "alter table t alter id set not null",
    "alter table t alter c set not null",
    "alter table t alter s set not null",
    "alter table t validate constraint s_filled",
    "alter table t add constraint x check (b is not null)",
    "alter table t alter a set default 1, alter a set not null",
    "alter table t alter a set default 1; alter table t add constraint x check (a is not null) not valid",
    "alter table t add column d int not null default 1",
    "alter table t add column d int default 1; alter table t alter d set not null",
    "alter table t add column d int, alter d set default 1, alter d set not null",
    "alter table t add column d int generated always as (a * 2) stored; alter table t alter d set not null",
    (
        "alter table t add column d int; create trigger g before insert on t for each row execute function f(); "
        "alter table t alter d set not null"
    ),
    "alter table t alter b drop not null",
    # What no older image knows.
    (
        "create table fresh (id bigint, a int); alter table fresh add unique (a), alter a set not null; "
        "alter table fresh add check (a > 0); alter table fresh add foreign key (id) references q; "
        "alter table fresh alter a type text; alter table fresh enable row level security; "
        "alter table fresh owner to other; revoke all on fresh from public; create policy p on fresh; "
        "drop policy p on fresh; create unique index i on fresh (id); drop index i"
    ),
    "create function g() returns int language sql as 'select 1'; revoke all on function g() from public",
    "create schema fresh; revoke all on schema fresh from public",
    "alter table t add column d int; alter table t add constraint x check (d > 0) not valid",
    "alter table t add column d int; create unique index concurrently i on t (d)",
    "alter table t add column d int; alter table t add unique (d)",
    "alter table t add column d bigint; alter table t add foreign key (d) references q not valid",
    # What is ensured already, or is no right to use something.
    "create unique index i on t (mail, a)",
    "create unique index if not exists t_mail on t (mail)",
    "alter table t add constraint t_mail_key unique using index t_mail",
    "alter table t add unique (mail)",
    "create unique index i on t (mail); drop index t_mail",
    "create index i on t (v)",
    "drop index unknown",
    "alter table t add constraint x check (a > 0) not enforced",
    "alter table t add constraint x check (k > 0 or k < -9)",
    "alter table t drop constraint s_filled",
    "revoke grant option for select on t from app",
    "revoke create on schema public from public",
    "grant select on t to app",
    "grant writers to app",
    "drop policy p on t; create policy p on t using (true)",
]


def found(sql: str, options: str = "") -> set[str]:
    """Return the rules of this page that a file breaks."""
    return {reason.rule for reason in reasons(BEFORE, up(sql, options))} & RULES


@pytest.mark.parametrize(("rule", "sql"), BREAKS)
def test_what_older_images_may_still_do_is_kept(rule: str, sql: str) -> None:
    """A statement that forbids it has exactly one finding: that it needs `contract`."""
    assert found(sql) == {rule}


@pytest.mark.parametrize("sql", FITS)
def test_what_no_older_image_does_may_be_forbidden(sql: str) -> None:
    """A statement that only allows more, or forbids what was already forbidden, has no finding either."""
    assert found(sql) == set()


@pytest.mark.parametrize(("rule", "sql"), [each for each in BREAKS if each[0] != "not-null-without-default"])
def test_a_contract_migration_may_forbid_it(rule: str, sql: str) -> None:
    """The guard keeps out the images that are older than compatible-from."""
    assert rule not in found(sql, "contract compatible-from:20250101000000_x")


@pytest.mark.parametrize(("rule", "sql"), BREAKS)
def test_the_message_says_how_to_go_on(rule: str, sql: str) -> None:
    """The message has the up line with an existing revision and, where lint cannot be sure, an allowance."""
    (reason, *_) = [each for each in reasons(BEFORE, up(sql)) if each.rule == rule]
    safe = "\n".join(reason.safe)
    if rule != "not-null-without-default":
        assert "-- migrate:up contract compatible-from:20250101000000_x" in safe
        assert ("allow it" in safe) == (reason.level is not Level.ERROR)
    assert "..." not in reason.message


def test_what_follows_a_constraint_is_not_found_again() -> None:
    """The steps of not-null-scan, one file each: the first one refuses NULL, and the others only use that."""
    first = "alter table t add constraint x check (a is not null) not valid;"
    assert found(first) == {CONSTRAINT}
    steps = (
        "alter table t validate constraint x;",
        "alter table t alter a set not null;",
        "alter table t drop constraint x;",
    )
    files = [BEFORE, up(first)]
    for step in steps:
        files.append(up(step))
        assert not {reason.rule for reason in reasons(*files)} & RULES, step


def test_an_expression_that_goes_is_a_drop() -> None:
    """Older images do not write a column that was computed."""
    before = up("create table g (a int, d int generated always as (a * 2) stored);")
    assert "drop-without-contract" in {
        each.rule for each in reasons(before, up("alter table g alter d drop expression;"))
    }
