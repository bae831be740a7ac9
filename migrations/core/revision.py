"""The identity of one migration, in its short form `NAME` and its long form `NAME+COUNT.DIGEST`.

ValueError
└── RevisionError   a text that is not a revision, or an empty list of names, which declares none
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DIGEST_LENGTH = 12
LEAF_SEPARATOR = ","
"""Separates the newest migrations of several applications, all of which an image expects (Django)."""
_LONGEST_NAME = 2048
_SHOWN = 80

LONGEST_TEXT = 2560
"""Maximum length of a declared revision, in characters: the longest name, its extensions and `+COUNT.DIGEST`. A longer
text is refused before it is parsed: an annotation may have 256 KiB."""

# Extensions of migration files: SQL and Python (the native ones), those of Knex's `loadExtensions` and newer ones of
# JavaScript and TypeScript, Rails, Ecto, goose. Other suffixes stay, so that a name such as `v1.2` is not shortened.
_EXTENSIONS = frozenset("sql py ts js cjs mjs mts cts co coffee litcoffee eg iced ls rb exs go".split())  # noqa: SIM905
_LONGEST_COUNT = 9  # digits
_DIGITS, _HEX_DIGITS = "0123456789", "0123456789abcdef"


class RevisionError(ValueError):
    """A text that is not a revision; the message shows the text and the accepted forms."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One migration and, in the long form, everything that must have been applied before it.

    Attributes:
        name: Canonical name, without a file extension.
        count: Number of migrations that the image knows up to `name`, inclusive; None in the short form.
        digest: The digest over their names, 12 hex digits; None exactly when `count` is None.
    """

    name: str
    count: int | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a revision as a pod, a flag or a file declares it, without the surrounding whitespace.

        Raises:
            RevisionError: The text is empty or too long, or has unprintable characters or a malformed `+COUNT.DIGEST`.
        """
        stripped = text.strip()
        if len(stripped) > LONGEST_TEXT:
            raise _malformed(text)
        name, plus, suffix = stripped.partition("+")
        name = canonical(name)
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise _malformed(text)
        if not plus:
            return cls(name)
        count, _, digest = suffix.partition(".")
        if not 0 < len(count) <= _LONGEST_COUNT or count.strip(_DIGITS) or count[0] == "0":
            raise _malformed(text)
        if len(digest) != DIGEST_LENGTH or digest.strip(_HEX_DIGITS):
            raise _malformed(text)
        return cls(name, int(count), digest)

    def __str__(self) -> str:
        return self.name if self.count is None else f"{self.name}+{self.count}.{self.digest}"


def canonical(name: str) -> str:
    """Return the name without extensions of migration files, in Unicode's composed form (NFC).

    `x`, `x.ts` and `x.js` are one revision; so are the two forms of `añadir`: some file systems, archives and editors
    of macOS write the accent as a separate character (NFD).
    """
    name = composed(name)
    # From the end, in one pass: a regular expression that looks for the first extension takes quadratic time.
    end = len(name)
    while (dot := name.rfind(".", 0, end)) > 0 and name[dot + 1 : end] in _EXTENSIONS and name[dot - 1] != "\n":
        end = dot
    return name[:end]


def composed(name: str) -> str:
    """Return the name in Unicode's composed form (NFC)."""
    if name.isascii():
        return name
    from unicodedata import normalize  # noqa: PLC0415 - few names need it

    return normalize("NFC", name)


def spellings(name: str) -> tuple[str, ...]:
    """Return the forms in which a ledger may have recorded a canonical name.

    Older versions of ledgergate recorded the Unicode form of the file's name.
    """
    if name.isascii():
        return (name,)
    from unicodedata import normalize  # noqa: PLC0415 - as above

    return tuple(dict.fromkeys((name, normalize("NFD", name))))


def declare(names: Sequence[str]) -> Revision:
    r"""Return the long form of the newest of `names`.

    The digest is the beginning of the SHA-256 over the canonical names, each followed by a newline, as
    `printf '%s\n' NAME ... | sha256sum` computes it.

    Args:
        names: Every migration of a directory, oldest first.

    Raises:
        RevisionError: There are no names.
    """
    known = [canonical(name) for name in names]
    if not known:
        raise RevisionError(
            "there is no migration, so there is no revision to declare; add one with `ledgergate migrate new NAME`"
        )
    *_, last = digests(known)
    return Revision(known[-1], len(known), last)


def digests(names: Iterable[str]) -> Iterator[str]:
    """Yield for each canonical name the digest over it and all names before it."""
    running = hashlib.sha256()
    for name in names:
        # A name may hold lone surrogates: from a file name that is not UTF-8, or an escape in JSON.
        running.update(f"{name}\n".encode(errors="surrogatepass"))
        yield running.copy().hexdigest()[:DIGEST_LENGTH]


def digest_of(names: Iterable[str]) -> str:
    """Return the digest over all of these canonical names."""
    digest = hashlib.sha256("".join(f"{name}\n" for name in names).encode(errors="surrogatepass"))
    return digest.hexdigest()[:DIGEST_LENGTH]


def _malformed(text: str) -> RevisionError:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return RevisionError(
        f"expected a revision as NAME or NAME+COUNT.DIGEST (`ledgergate migrate revision` prints it), got {shown!r}: "
        f"NAME is 1 to {_LONGEST_NAME} printable characters without '+', "
        f"COUNT a positive number, DIGEST {DIGEST_LENGTH} hexadecimal digits"
    )
