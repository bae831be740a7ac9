"""`-- lint:allow RULE because REASON`: for the statement below, or in the head of a file for all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.lint.rule import Hit, Level, Rule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from migrations.lint.parser import Comment

BAD_ALLOW = Rule(
    "bad-allow",
    Level.ERROR,
    "A lint:allow without a reason, or with a rule that does not exist, allows nothing.",
    "docs/lint.md",
    down=True,
    details="It has no effect, so the finding stays.",
    safe=("-- lint:allow truncate because the cache fills itself again",),
)
UNUSED_ALLOW = Rule(
    "unused-allow",
    Level.WARNING,
    "A lint:allow that nothing needs will hide the next finding.",
    "docs/lint.md",
    others=("unused-ignore",),
    down=True,
    safe=("-- take the comment out",),
)
RULES = (BAD_ALLOW, UNUSED_ALLOW)

_ALLOW = re.compile(r"lint:\s*(?P<verb>\w*)\s*(?P<rule>[^\s,]*)\s*(?P<rest>.*)", re.DOTALL)
_REASON = re.compile(r"because\b[\s:]*(?P<reason>.*\S)", re.DOTALL)
_EXAMPLE = ("-- lint:allow RULE because REASON",)


@dataclass(frozen=True, slots=True)
class Allow:
    """A finding that its author wants.

    Attributes:
        rule: Name of the rule.
        position: Offset of the comment.
        begin: Offset from which on statements are allowed to break it.
        end: Offset up to which.
    """

    rule: str
    position: int
    begin: int
    end: int

    def covers(self, rule: str, position: int) -> bool:
        """Whether it allows a rule at a place."""
        return self.rule == rule and self.begin <= position < self.end


def read(
    comments: Sequence[Comment], head: int, length: int, spans: Sequence[tuple[int, int]], known: Collection[str]
) -> Iterator[Allow | tuple[int, Hit]]:
    """Give what the comments allow, and those that allow nothing.

    Args:
        comments: Of the file, in order.
        head: Offset at which the file's first section begins: a comment before it is for the whole file.
        length: Of the file.
        spans: Begin and end of each statement, in order.
        known: Names of all rules.
    """
    for comment in comments:
        allow = _ALLOW.match(comment.text)
        if allow is None:
            continue
        rule = allow["rule"]
        if allow["verb"] != "allow" or rule not in known:
            text = f"expected `lint:allow` and the name of a rule, got {comment.text.partition(chr(10))[0]!r}"
            yield comment.position, Hit(BAD_ALLOW, text, (*_EXAMPLE, "-- ledgergate migrate lint --rules  names them"))
        elif _REASON.match(allow["rest"]) is None:
            yield (
                comment.position,
                Hit(BAD_ALLOW, f"expected `because` and a reason why {rule} is no hazard here", _EXAMPLE),
            )
        elif comment.position < head:
            yield Allow(rule, comment.position, 0, length + 1)
        else:
            begin, end = next((span for span in spans if span[1] > comment.position), (length, length + 1))
            yield Allow(rule, comment.position, begin, end)


def unused(allow: Allow) -> tuple[int, Hit]:
    """Say that nothing needs an allowance."""
    return allow.position, Hit(UNUSED_ALLOW, f"nothing here breaks {allow.rule}", ("-- take the comment out",))
