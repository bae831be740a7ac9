"""`-- lint:allow RULE, … because REASON`: allows findings of the next statement, or of the whole file from its head."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.lint.rule import Level, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.lint.parser import Comment

BAD_ALLOW = Rule(
    "bad-allow",
    Level.ERROR,
    "A lint:allow without a reason, or with an unknown rule, allows nothing.",
    "docs/lint.md",
    down=True,
    details="It has no effect, so the finding stays.",
    safe=("-- lint:allow truncate because the cache fills itself again",),
)
UNUSED_ALLOW = Rule(
    "unused-allow",
    Level.WARNING,
    "A lint:allow that no statement needs will hide the next finding.",
    "docs/lint.md",
    others=("unused-ignore",),
    down=True,
    safe=("-- remove the comment",),
)
RULES = (BAD_ALLOW, UNUSED_ALLOW)

_ALLOW = re.compile(r"lint:\s*(?P<verb>\w*)\s*(?P<rules>[^\s,]*(?:\s*,\s*[^\s,]+)*)\s*(?P<rest>.*)", re.DOTALL)
_REASON = re.compile(r"because\b[\s:]*(?P<reason>.*\S)", re.DOTALL)
RENAMED = {"trigger": "short-lock"}
"""Former names of rules to the present ones; comments, lint.toml and ledgergate.toml may still have the former."""
_EXAMPLE = ("-- lint:allow RULE because REASON",)


@dataclass(frozen=True, slots=True)
class Allow:
    """A rule that a part of the file may break.

    Attributes:
        rule: Name of the rule.
        position: Offset of the comment.
        begin: Offset of the first character of that part.
        end: Offset behind its last character.
    """

    rule: str
    position: int
    begin: int
    end: int

    def covers(self, rule: str, position: int) -> bool:
        """Return whether it allows a violation of the rule at an offset."""
        return self.rule == rule and self.begin <= position < self.end


def parse_allows(
    comments: Sequence[Comment], head: int, length: int, spans: Sequence[tuple[int, int]], known: frozenset[str]
) -> Iterator[Allow | tuple[int, Violation]]:
    """Yield what the comments allow, and a violation with its offset for each comment that allows nothing.

    Args:
        comments: Comments of the file, in order.
        head: Length of the head of the file: a comment in it, before the first section, is for the whole file.
        length: Length of the file.
        spans: Begin and end of each statement, in order.
        known: Names of all rules.
    """
    for comment in comments:
        allow = _ALLOW.match(comment.text)
        if allow is None:
            continue
        rules = [RENAMED.get(rule, rule) for rule in re.split(r"\s*,\s*", allow["rules"])]
        if allow["verb"] != "allow" or not known.issuperset(rules):
            first_line = comment.text.partition("\n")[0]
            text = f"expected `lint:allow` and the name of a rule, got {first_line!r}"
            yield (
                comment.position,
                Violation(BAD_ALLOW, text, (*_EXAMPLE, "-- the names: ledgergate migrate lint --rules")),
            )
        elif _REASON.match(allow["rest"]) is None:
            yield (
                comment.position,
                Violation(
                    BAD_ALLOW,
                    f"expected `because` and the reason why {' and '.join(rules)} does no harm here",
                    _EXAMPLE,
                ),
            )
        elif comment.position < head:
            yield from (Allow(rule, comment.position, 0, length + 1) for rule in rules)
        else:
            # The comment stands before its statement or inside it. Behind the last statement it covers the end of the
            # file: one offset more than the text has, as a violation may be placed behind the last character.
            begin, end = next((span for span in spans if span[1] > comment.position), (length, length + 1))
            yield from (Allow(rule, comment.position, begin, end) for rule in rules)


def unused_allow(allow: Allow) -> tuple[int, Violation]:
    """Return the violation, with its offset, of a comment that no statement needs."""
    return allow.position, Violation(UNUSED_ALLOW, f"no statement here breaks {allow.rule}", ("-- remove the comment",))
