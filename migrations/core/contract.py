"""Contract migrations of a directory: which migrations an image needs despite them, and how a label lists them.

ValueError
└── ContractError   a text that is not a list of contracts, or a name that cannot be written in one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from migrations.core.migration import Migration

    class Declares(Protocol):
        """What a migration is called, and what it breaks."""

        @property
        def revision(self) -> str:
            """Canonical name."""

        @property
        def compatible_from(self) -> str | None:
            """For a contract migration, the oldest revision whose images can still run."""


AMigration = TypeVar("AMigration", bound="Declares")

MAX_CONTRACTS = 16
"""Maximum number of contracts in a label, the newest ones. A release with more pending contracts is far behind."""
MAX_CONTRACTS_TEXT = 4096
"""Maximum length of the label, in characters. A longer text is refused before it is parsed."""
_SEPARATORS = " ,:"


class ContractError(ValueError):
    """A text that is not a list of contracts, or a name that cannot be written in one; the message names the form."""


class Contract(NamedTuple):
    """A contract migration.

    Attributes:
        revision: Canonical name of the migration.
        compatible_from: The oldest revision whose images can still run once it is applied.
    """

    revision: str
    compatible_from: str


def needed(migrations: Sequence[AMigration]) -> Sequence[AMigration]:
    """Return the migrations that an image needs: those before the contract migrations at the end of its directory.

    A contract migration is also needed if its `compatible_from` is newer than every migration that would remain without
    it. Otherwise the image would declare a revision that its own migrations make incompatible.

    Args:
        migrations: Every migration of a directory, oldest first.
    """
    end, oldest = len(migrations), ""
    for index in range(len(migrations) - 1, 0, -1):
        boundary = migrations[index].compatible_from
        if boundary is None:
            break
        oldest = max(oldest, boundary)  # names of native migrations sort by their time
        if oldest <= migrations[index - 1].revision:
            end = index
    return migrations[:end]


def newest_contracts(migrations: Iterable[Migration]) -> tuple[Contract, ...]:
    """Return the newest contracts of a directory, oldest first, as many as a label may hold.

    Raises:
        ContractError: A name cannot be written in a label.
    """
    contracts = [Contract(m.revision, m.compatible_from) for m in migrations if m.compatible_from is not None]
    kept = contracts[-MAX_CONTRACTS:]
    for contract in kept:
        for name in contract:
            if set(name) & set(_SEPARATORS):
                raise ContractError(
                    f"expected a contract migration whose name has no blank, comma or colon, got {name!r}: a label "
                    "separates contracts by them; rename the file before it is applied anywhere"
                )
    while len(format_contracts(kept)) > MAX_CONTRACTS_TEXT:
        del kept[0]
    return tuple(kept)


def describe_contracts(contracts: Iterable[Migration]) -> str:
    """Return contract migrations with the images that each breaks, as a clause of a sentence."""
    return ", ".join(f"{each.revision} (breaks images older than {each.compatible_from})" for each in contracts)


def describe_left(contracts: Iterable[Migration]) -> str:
    """Return which contract migrations are left for the contract phase, and when and how to apply them."""
    return (
        f"left for the contract phase: {describe_contracts(contracts)}. Once no such image runs any more: "
        "ledgergate migrate up --phase contract"
    )


def format_contracts(contracts: Iterable[Contract], separator: str = " ") -> str:
    """Return contracts as a label or annotation holds them, each `CONTRACT:COMPATIBLE_FROM`.

    Args:
        contracts: In the order of their names.
        separator: A blank, or a comma where the text must be one word of a shell.
    """
    return separator.join(f"{revision}:{compatible_from}" for revision, compatible_from in contracts)


def parse_contracts(text: str) -> tuple[Contract, ...]:
    """Parse the text of a label or annotation: contracts separated by blanks or commas.

    Raises:
        ContractError: The text is too long, lists too many, or has another form.
    """
    words = text.replace(",", " ").split() if len(text) <= MAX_CONTRACTS_TEXT else []
    contracts = [Contract(*parts) for word in words if len(parts := word.split(":")) == 2 and all(parts)]  # noqa: PLR2004
    if len(contracts) != len(words) or len(words) > MAX_CONTRACTS or not (words or not text.strip()):
        raise ContractError(
            f"expected at most {MAX_CONTRACTS} contracts in {MAX_CONTRACTS_TEXT} characters, each "
            "CONTRACT:COMPATIBLE_FROM, separated by blanks or commas, as `ledgergate migrate revision --output json` "
            f"prints them; got {text[:80]!r}"
        )
    return tuple(contracts)
