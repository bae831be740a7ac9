"""The identity of one migration, in its short form `NAME` and its long form `NAME+COUNT.DIGEST`.

ValueError
└── RevisionError   a text that is no revision, or a list of names that declares none
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DIGEST_LENGTH = 12
_LONGEST_NAME = 512
_SHOWN = 80

# What migration tools call their files: SQL and Python (ours), Knex's `loadExtensions` and their newer kin, Rails,
# Ecto, goose. Only these are cut off, so that a name such as `v1.2` stays whole.
_EXTENSIONS = re.compile(r"(?<=.)(?:\.(?:sql|py|ts|js|cjs|mjs|mts|cts|co|coffee|litcoffee|eg|iced|ls|rb|exs|go))+\Z")
_LONG_FORM = re.compile(rf"(?P<count>[1-9][0-9]{{0,8}})\.(?P<digest>[0-9a-f]{{{DIGEST_LENGTH}}})\Z")


class RevisionError(ValueError):
    """A text that is no revision; the message says what was given and which forms are accepted."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Name one migration and, in the long form, everything that must have come before it.

    Attributes:
        name: Canonical name, without a file extension.
        count: How many migrations the image knows up to and including `name`; None in the short form.
        digest: First 12 hex digits of `digests` over those names; None exactly when `count` is.
    """

    name: str
    count: int | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a revision as a pod, a flag or a file declares it; surrounding blanks do not count.

        Raises:
            RevisionError: The text is empty, too long, holds unprintable characters or a malformed `+COUNT.DIGEST`.
        """
        name, plus, suffix = text.strip().partition("+")
        name = canonical(name)
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise _refusal(text)
        if not plus:
            return cls(name)
        long_form = _LONG_FORM.match(suffix)
        if long_form is None:
            raise _refusal(text)
        return cls(name, int(long_form["count"]), long_form["digest"])

    def __str__(self) -> str:
        return self.name if self.count is None else f"{self.name}+{self.count}.{self.digest}"


def canonical(name: str) -> str:
    """Cut the extensions of migration files off a name, so that `x`, `x.ts` and `x.js` are one revision."""
    return _EXTENSIONS.sub("", name)


def declare(names: Sequence[str]) -> Revision:
    r"""Give the long form of the newest of `names`.

    The digest is over the canonical names, each followed by a newline: `printf '%s\n' NAME ... | sha256sum` shows it.

    Args:
        names: Every migration of a directory, in order, oldest first.

    Raises:
        RevisionError: There is none.
    """
    known = [canonical(name) for name in names]
    if not known:
        raise RevisionError(
            "there is no migration, so there is no revision to declare; add one with `ledgergate migrate new NAME`"
        )
    *_, last = digests(known)
    return Revision(known[-1], len(known), last)


def digests(names: Iterable[str]) -> Iterator[str]:
    """Yield, for each of the canonical `names` in turn, the digest over it and all before it."""
    running = hashlib.sha256()
    for name in names:
        running.update(f"{name}\n".encode(errors="surrogatepass"))
        yield running.copy().hexdigest()[:DIGEST_LENGTH]


def digest_of(names: Iterable[str]) -> str:
    """Give the digest over all of these canonical names; over none it is that of no text."""
    digest = hashlib.sha256("".join(f"{name}\n" for name in names).encode(errors="surrogatepass"))
    return digest.hexdigest()[:DIGEST_LENGTH]


def _refusal(text: str) -> RevisionError:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return RevisionError(
        f"expected a revision as NAME or NAME+COUNT.DIGEST (`ledgergate migrate revision` prints it), got {shown!r}: "
        f"NAME is 1 to {_LONGEST_NAME} printable characters without '+', "
        f"COUNT a positive number, DIGEST {DIGEST_LENGTH} hexadecimal digits"
    )
