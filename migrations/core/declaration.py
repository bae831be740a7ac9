"""What an image declares about itself, and the labels and annotations that carry the declaration.

ValueError
└── DeclarationError   a value that cannot be written as the arguments of a build
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.contract import Contract, format_contracts

if TYPE_CHECKING:
    from migrations.core.revision import Revision

REVISION_LABEL = "dev.ledgergate.revision"
CONTRACT_LABEL = "dev.ledgergate.contract"
ANCESTORS_LABEL = "dev.ledgergate.ancestors"
REVISION_ANNOTATION = "ledgergate.dev/revision"
CONTRACT_ANNOTATION = "ledgergate.dev/contract"
ANCESTORS_ANNOTATION = "ledgergate.dev/ancestors"

MAX_ANCESTORS = 64 * 1024
"""Maximum length of the list of ancestors, in characters: enough for 5,000 revisions of Alembic. A truncated list would
make an older ledger pass for a newer one, so a longer list is left out."""


class DeclarationError(ValueError):
    """A value that a shell would split or expand; the message names the output to use instead."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What an image with a directory of migrations declares.

    Attributes:
        revision: What the image needs.
        contracts: The newest contract migrations that it brings, oldest first.
        ancestors: The revisions before `revision`, for ledgers that record heads alone; None for others.
    """

    revision: Revision
    contracts: tuple[Contract, ...] = ()
    ancestors: tuple[str, ...] | None = None

    def labels(self, separator: str = " ") -> dict[str, str]:
        """Return the image's labels.

        Args:
            separator: Between two contracts.
        """
        return self._named((REVISION_LABEL, CONTRACT_LABEL, ANCESTORS_LABEL), separator)

    def annotations(self) -> dict[str, str]:
        """Return the annotations of a pod with the image."""
        return self._named((REVISION_ANNOTATION, CONTRACT_ANNOTATION, ANCESTORS_ANNOTATION), " ")

    def build_arguments(self) -> str:
        """Return the labels as arguments of `docker build`, which a shell splits at blanks and nowhere else.

        Quotes would not help: a shell does not read them in the result of `$(...)`. So contracts are separated by
        commas here.

        Raises:
            DeclarationError: A value has a blank, or a character that a shell expands to file names.
        """
        labels = self.labels(",")
        for name, value in labels.items():
            if unsafe := sorted({character for character in value if character.isspace() or character in "*?[\\"}):
                raise DeclarationError(
                    f"expected a value for --output labels that a shell takes as it is, got {name}={value[:200]} with "
                    f"{' '.join(map(repr, unsafe))}; quote the plain value instead: docker build --label "
                    f'{name}="$(ledgergate migrate revision)" .'
                )
        return " ".join(f"--label {name}={value}" for name, value in labels.items())

    @property
    def ancestors_left_out(self) -> bool:
        """Whether the list of ancestors is too long for a label or annotation."""
        return len(",".join(self.ancestors or ())) > MAX_ANCESTORS

    def _named(self, names: tuple[str, str, str], separator: str) -> dict[str, str]:
        revision, contract, ancestors = names
        values = {revision: str(self.revision)}
        if self.contracts:
            values[contract] = format_contracts(self.contracts, separator)
        if self.ancestors is not None and not self.ancestors_left_out:
            values[ancestors] = ",".join(self.ancestors)
        return values
