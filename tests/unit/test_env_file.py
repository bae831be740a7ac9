"""Files of environment variables: what they set, and what is wrong with them."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.cli.env_file import EnvFileError, read_env_file

if TYPE_CHECKING:
    from pathlib import Path


def read(directory: Path, text: str, **environment: str) -> dict[str, str]:
    """Return what a file with this text sets."""
    path = directory / ".env"
    path.write_bytes(text.encode())
    return read_env_file(path, environment)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("A=b", "b"),
            ("A = b  ", "b"),
            ("export A=b", "b"),
            ("A: b", "b"),
            ("A=", ""),
            ("A=''", ""),
        ),
        *(("A=b # c", "b"), ("A=b#c", "b#c"), ("A='b # c' # d", "b # c"), ('A="b # c"', "b # c"), ("A=b\r\n", "b")),
        *(("A='a\nb'", "a\nb"), ('A="a\nb"', "a\nb"), (r'A="a\nb\"\\"', 'a\nb"\\'), (r"A='a\nb'", r"a\nb")),
        *(
            ("A=$B", "x"),
            ("A=${B}y", "xy"),
            ('A="$B y"', "x y"),
            ("A='$B'", "$B"),
            (r"A=\$B", "$B"),
            (r'A="\$B"', "$B"),
        ),
        *(("A=$b", "$b"), ("A=a$", "a$"), ("A=p$1w", "p$1w"), ("C=1\nA=${C}${B}", "1x")),
        ("A=postgresql://me:p%40w@db/app?sslmode=require&a=b", "postgresql://me:p%40w@db/app?sslmode=require&a=b"),
    ],
)
def test_a_value_is_read(text: str, value: str, tmp_path: Path) -> None:
    """Quoted or not, with a comment, a reference, an escape or none."""
    assert read(tmp_path, f"\ufeff# first\n\n{text}\n  # last", B="x")["A"] == value


def test_every_problem_has_a_line_and_no_value(tmp_path: Path) -> None:
    """Every problem names its line and shows no value, which may be a password."""
    text = "A=1\nnonsense s3cret\nB='s3cret\nC=$NOWHERE s3cret\nD=s3'cret"
    with pytest.raises(EnvFileError) as refused:
        read(tmp_path, text)
    assert [problem.split(":")[1] for problem in refused.value.problems] == ["2", "3", "4"]
    assert "s3cret" not in str(refused.value)
    assert "C refers to $NOWHERE, which is not set" in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It is missing, a directory, or not UTF-8."""
    (tmp_path / "latin").write_bytes(b"A=\xe9")
    for name in ("nowhere", ".", "latin"):
        with pytest.raises(EnvFileError, match="expected a readable file of NAME=VALUE"):
            read_env_file(tmp_path / name, {})


@given(
    st.dictionaries(
        st.text(string.ascii_uppercase, min_size=1), st.text(st.characters(codec="utf-8", exclude_characters="'\r"))
    )
)
def test_what_is_in_single_quotes_arrives_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]
) -> None:
    """Any text but a single quote."""
    text = "".join(f"{name}='{value}'\n" for name, value in variables.items())
    assert read(tmp_path_factory.mktemp("env"), text) == variables
