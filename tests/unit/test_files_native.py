from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.migration import FilesError, Migration, SectionBody
from migrations.files.native import load_directory, parse

SQL = Path("20250101000000_one.sql")
PYTHON = Path("20250101000000_one.py")
OPTIONS = "transaction:true, transaction:false"

# From dbmate's documentation: https://github.com/amacneil/dbmate#creating-migrations and the sections below it.
DBMATE = [
    """-- migrate:up
create table users (
  id integer,
  name varchar(255),
  email varchar(255) not null
);

-- migrate:down
drop table users;
""",
    "-- migrate:up transaction:false\nALTER TYPE colors ADD VALUE 'orange' AFTER 'red';\n",
    "-- a comment first\n\n--migrate:up\r\nselect 1;\r\n--  migrate:down  transaction:false\r\n",
    "\ufeff-- migrate:up\nselect 1;\n\n-- migrate:down\n",
]


def of(text: str, path: Path = SQL) -> Migration:
    return parse(path, text.encode())


def problems(text: str, path: Path = SQL) -> list[tuple[int, str]]:
    with pytest.raises(FilesError) as refused:
        of(text, path)
    return [(problem.line, problem.text) for problem in refused.value.problems]


def test_a_migration_has_two_sections_and_a_checksum() -> None:
    """Each section has its text and the line on which it begins; the checksum is that of the bytes."""
    text = "-- why\n-- migrate:up\nselect 1;\n-- migrate:down transaction:false\nselect 2;\n"
    assert of(text) == Migration(
        revision="20250101000000_one",
        path=SQL,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        up=SectionBody("\nselect 1;\n", 2),
        down=SectionBody("\nselect 2;\n", 4, transactional=False),
    )


@pytest.mark.parametrize("text", DBMATE)
def test_files_of_dbmate_are_migrations(text: str) -> None:
    """The examples of its documentation are parsed without a problem."""
    assert of(text).up.sql


def test_a_contract_migration_names_the_oldest_compatible_revision() -> None:
    """An extension of the name is ignored."""
    up = "-- migrate:up contract compatible-from:20240101000000_x.sql transaction:false\ndrop table x;"
    migration = of(up)
    assert migration.compatible_from == "20240101000000_x"
    assert not migration.up.transactional


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "`-- migrate:up`, found none"),
        ("select 1;", 1, "`-- migrate:up`, found none"),
        ("-- migrate:down\nselect 1;", 1, "`-- migrate:up`, found none"),
        ("-- migrate:up\n\n-- nothing\n/* at\nall */\n-- migrate:down\nselect 1;", 1, "a statement in the up section"),
        ("-- x\nselect 0;\n-- migrate:up\nselect 1;", 2, "nothing but comments before"),
        ("-- migrate:up\nselect 1;\n-- migrate:up\nselect 2;", 3, "one up section"),
        ("-- migrate:down\nselect 1;\n-- migrate:up\nselect 2;", 1, "before the down section"),
        ("-- migrate:up\nselect 1;\n-- migrate:dwn\ndrop table x;", 3, "got `migrate:dwn`"),
        ("-- migrate:up transaction:maybe\nselect 1;", 1, "got 'transaction:maybe'"),
        ("-- migrate:up transction:false\nselect 1;", 1, "got 'transction:false'"),
        ("-- migrate:up contract\nselect 1;", 1, "together"),
        ("-- migrate:up compatible-from:20240101000000_x\nselect 1;", 1, "together"),
        ("-- migrate:up contract compatible-from:20260101000000_x\nselect 1;", 1, "this revision or an older one"),
        ("-- migrate:up\nselect 1;\n-- migrate:down contract\nselect 1;", 3, "got 'contract'"),
        ("-- migrate:up\nselect '\0';", 2, "NUL"),
    ],
)
def test_a_problem_of_sql_has_its_line(text: str, line: int, words: str) -> None:
    """One mistake is one problem, on the line of the mistake."""
    ((at, message),) = problems(text)
    assert (at, words in message) == (line, True), message


def test_every_problem_is_reported_at_once() -> None:
    """A file with several mistakes has a problem for each."""
    assert [line for line, _ in problems("select 0;\n-- migrate:up contrakt\n-- migrate:dwn\n", Path("one.sql"))] == [
        0,
        1,
        2,
        2,
        3,
    ]


@pytest.mark.parametrize("option", ["foo:bar", "fast", "env:prod", "splitStatements:false", "x=y"])
def test_an_option_of_another_tool_is_left_out_and_kept_for_a_remark(option: str) -> None:
    """It is ignored, as dbmate does, and kept for a remark; the options beside it count."""
    migration = of(f"-- migrate:up {option} transaction:false\nselect 1;\n-- migrate:down {option}\nselect 2;")
    assert migration.down is not None
    assert migration.up.unknown == migration.down.unknown == (option,)
    assert not migration.up.transactional


@pytest.mark.parametrize(
    "option", ["transaction=false", "--transaction:false", "Transaction:false", "no-transaction", "locktimeout:2s"]
)
def test_an_option_with_a_mistake_is_a_problem(option: str) -> None:
    """It was meant for ledgergate, and would not count."""
    ((line, message),) = problems(f"-- migrate:up {option}\nselect 1;")
    assert line == 1
    assert repr(option) in message


def test_a_file_that_is_not_utf8() -> None:
    """The first byte that is not UTF-8 is reported with its line."""
    with pytest.raises(FilesError, match=r"one\.sql:2: expected UTF-8"):
        parse(SQL, "-- migrate:up\nselect 'ä';".encode("latin-1"))


def test_a_python_migration_is_read_without_running_it() -> None:
    """Options are constants, and `up` and `down` are `async def`."""
    migration = of(
        'raise SystemExit\ntransaction = False\ncompatible_from = "20240101000000_x.py"\n'
        "async def up(connection): ...\nasync def down(connection): ...\n",
        PYTHON,
    )
    assert migration.up == SectionBody(None, 4, transactional=False)
    assert migration.down == SectionBody(None, 5, transactional=False)
    assert migration.compatible_from == "20240101000000_x"
    assert of("async def up(connection): ...", PYTHON).down is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "`async def up(connection)`, found none"),
        ("def up(connection): ...", 1, "`async def up(connection)`"),
        ("async def up(): ...", 1, "`async def up(connection)`"),
        ("async def up(c): ...\n\ndef down(c): ...", 3, "`async def down(connection)`"),
        ("async def up(c): ...\ntransaction = 0 > 1", 2, "`transaction = False`"),
        ("async def up(c): ...\ncompatible_from = 1", 2, "`compatible_from = "),
        ("async def up(c): ...\n  x", 2, "expected Python"),
    ],
)
def test_a_problem_of_python_has_its_line(text: str, line: int, words: str) -> None:
    """One mistake is one problem, on the line of the mistake."""
    ((at, message),) = problems(text, PYTHON)
    assert (at, words in message) == (line, True), message


@pytest.mark.parametrize(
    "name", ["one.sql", "2025_one.sql", "20250101000000.sql", "20250101000000_a b.sql", "20250101000000_a+b.sql"]
)
def test_a_name_begins_with_fourteen_digits(name: str) -> None:
    """Any other name is a problem without a line."""
    ((line, message),) = problems("-- migrate:up\nselect 1;", Path(name))
    assert (line, "14 digits" in message) == (0, True)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No other exception is raised, for SQL and for Python."""
    for path in (SQL, PYTHON):
        try:
            migration = of("-- migrate:up\n" + text if path is SQL else text, path)
        except FilesError as error:
            assert all(problem.text for problem in error.problems)  # noqa: PT017 - parsing it may succeed as well
        else:
            assert migration.revision == "20250101000000_one"


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """Files that are not migrations are ignored."""
    for name in ("20250101000002_b.sql", "20250101000001_c.sql", "20250101000001_c-2.sql"):
        (tmp_path / name).write_text("-- migrate:up\nselect 1;")
    (tmp_path / "20250101000003_a.py").write_text("async def up(connection): ...")
    for name in ("README.md", "__init__.py", ".hidden.sql", "schema.txt"):
        (tmp_path / name).write_text("x")
    assert [migration.revision[15:] for migration in load_directory(tmp_path)] == ["c", "c-2", "b", "a"]


def test_every_problem_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    """Problems are sorted by file and line; two files with one revision are a problem."""
    (tmp_path / "20250101000001_a.sql").write_text("-- migrate:up\nselect 1;")
    (tmp_path / "20250101000001_a.py").write_text("async def up(connection): ...")
    (tmp_path / "20250101000002_b.sql").write_text("-- migrate:up transaction=false\n-- migrate:upp\nselect 1;")
    (tmp_path / "c.sql").write_text("-- migrate:up\nselect 1;")
    with pytest.raises(FilesError) as refused:
        load_directory(tmp_path)
    reported = [(Path(problem.path).name, problem.line) for problem in refused.value.problems]
    assert reported == [
        ("20250101000001_a.sql", 0),
        ("20250101000002_b.sql", 1),
        ("20250101000002_b.sql", 1),
        ("20250101000002_b.sql", 2),
        ("c.sql", 0),
    ]
    assert str(refused.value).count("\n") == 4


@pytest.mark.parametrize(
    "name",
    [
        *("20250101000000_a.SQL", "20250101000000_a.Sql", "a.PY", "20250101000000_a.sql.txt", "20250101000000_a.sql "),
        *("20250101000000_a", "20250101000000_a.pgsql", "20250101000000_a.ddl"),
    ],
)
def test_a_file_that_was_meant_as_a_migration_is_not_skipped(tmp_path: Path, name: str) -> None:
    """A suffix in capitals, one that Windows hides, none, or another one for SQL: the message says what to do."""
    (tmp_path / name).write_text("-- migrate:up\nselect 1;")
    with pytest.raises(FilesError, match="at its end, in small letters; rename it"):
        load_directory(tmp_path)


def test_what_cannot_be_read_is_not_skipped(tmp_path: Path) -> None:
    """Links to nothing and to themselves, a directory or a FIFO in place of a file, a file that fails to be read."""
    paths = [tmp_path / f"2025010100000{number}_a.sql" for number in range(5)]
    paths[0].symlink_to("nowhere.sql")
    paths[1].symlink_to(paths[1])
    paths[2].mkdir()
    os.mkfifo(paths[3])
    paths[4].symlink_to("/proc/self/mem")
    with pytest.raises(FilesError) as refused:
        load_directory(tmp_path)
    texts = [problem.text for problem in refused.value.problems]
    words = ["a link to nowhere.sql", "can be read: Too many", "found a directory", "something else", "can be read: In"]
    assert [word in text for word, text in zip(words, texts, strict=True)] == [True] * 5, texts


@pytest.mark.parametrize(
    "name", [b"20250101000000_caf\xe9.sql", b"20250101000000_\x1b.sql", b"20250101000000_\xc2\x85.py"]
)
def test_a_name_is_printable_utf8(tmp_path: Path, name: bytes) -> None:
    """Bytes that are not UTF-8 and control characters are a problem, whose message can be printed."""
    (tmp_path / os.fsdecode(name)).write_text("-- migrate:up\nselect 1;")
    with pytest.raises(FilesError, match="expected a name") as refused:
        load_directory(tmp_path)
    assert str(refused.value).encode()


def test_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    """A decomposed name is the same revision as the composed one; both in one directory are a problem."""
    composed, decomposed = "20250101000000_a\u00f1adir", "20250101000000_an\u0303adir"
    (tmp_path / f"{decomposed}.sql").write_text("-- migrate:up\nselect 1;")
    assert [migration.revision for migration in load_directory(tmp_path)] == [composed]
    (tmp_path / f"{composed}.sql").write_text("-- migrate:up\nselect 1;")
    with pytest.raises(FilesError, match="has it too, perhaps in another Unicode form"):
        load_directory(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_refused(encoding: str) -> None:
    """A file in UTF-16 is refused, with or without a byte order mark."""
    with pytest.raises(FilesError, match=r"expected UTF-8 text|NUL"):
        parse(SQL, "-- migrate:up\nselect 1;".encode(encoding))


def test_line_ends_are_no_edit() -> None:
    """A checksum of the same lines with LF or CRLF is recognised; any other difference is not."""
    unix = b"-- migrate:up\nselect 1;\n"
    windows, mixed = unix.replace(b"\n", b"\r\n"), unix.replace(b"\n", b"\r\n", 1)
    sums = [hashlib.sha256(content).hexdigest() for content in (unix, windows)]
    for content in (unix, windows, mixed):
        migration = parse(SQL, content)
        others = [checksum for checksum in sums if checksum != migration.checksum]
        assert all(migration.differs_by_line_ends(checksum) for checksum in others)
        assert not migration.differs_by_line_ends(migration.checksum)
        assert not migration.differs_by_line_ends(None)
        assert not migration.differs_by_line_ends(hashlib.sha256(unix + b"\n").hexdigest())


def test_a_constant_of_python_may_be_annotated() -> None:
    """`transaction: bool = False` is as good as without the type; an annotation alone declares nothing."""
    text = "transaction: bool = False\ncompatible_from: str\nlock_timeout: 'str' = '3s'\nasync def up(c): ..."
    migration = of(text, PYTHON)
    assert (migration.up.transactional, migration.compatible_from, migration.up.lock_timeout) == (False, None, 3.0)
    assert problems("transaction: bool = 0\nasync def up(c): ...", PYTHON)[0][0] == 1


def test_a_directory_must_exist(tmp_path: Path) -> None:
    """An empty directory has no migrations, a missing one is a problem."""
    assert load_directory(tmp_path) == ()
    with pytest.raises(FilesError, match="--dir"):
        load_directory(tmp_path / "nowhere")
