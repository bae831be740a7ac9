"""The markers `-- migrate:up` and `-- migrate:down` of an SQL file, and everything that is nearly one.

To PostgreSQL, a marker is a comment. If a misspelt `-- migrate:down` passed as a comment, the down section would run
with the up section, so a line that resembles a marker is a problem. A line that dbmate would recognise as a marker, but
that PostgreSQL reads as part of a string, a comment or COPY data, is a problem too: its author may have meant either.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from migrations.files.lexer import RegionKind, regions
from migrations.files.positions import LineCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.migration import AddProblem
    from migrations.files.lexer import Region

# Each part is bounded by what the next one begins with, so that a search takes linear time. \W is every blank, dash and
# invisible character; the second colon is the full-width one of Chinese and Japanese keyboards. The last alternative
# matches the markers of goose and sql-migrate: a partly converted file has both kinds.
_NEARLY = re.compile(
    "migrate[^\\w:\uff1a]*[:\uff1a](?:\\W*(?:up|down)\\b|up|down)|\\+\\s*(?:goose|migrate)\\s+(?:up|down)\\b",
    re.IGNORECASE,
)
_SHOWN = 60


def check_markers(text: str, markers: Sequence[re.Match[str]], add_problem: AddProblem) -> list[re.Match[str]]:
    """Return the markers outside quotes; report the others, and text that is nearly a marker.

    Args:
        text: The whole file.
        markers: Every line that looks like a marker.
        add_problem: Receives the line and the text of each problem.
    """
    line, region_line = LineCounter(text), LineCounter(text)
    words = {marker.start("word") for marker in markers}
    found: list[re.Match[str]] = []
    waiting = deque(markers)
    for region in regions(text):
        own = region.kind is RegionKind.LINE_COMMENT  # a marker that begins where the comment begins is that comment
        while waiting and waiting[0].start() < region.begin + own:
            found.append(waiting.popleft())
        while waiting and waiting[0].start() < region.end:
            marker = waiting.popleft()
            add_problem(line(marker.start()), _describe_quoted(marker, region, region_line(region.begin)))
        # What follows a marker on its line is read as options.
        if region.kind.is_comment and not (found and found[-1].start() == region.begin):
            for nearly in _NEARLY.finditer(text, region.begin, region.end):
                if nearly.start() not in words:
                    add_problem(line(nearly.start()), _describe_nearly(text, nearly.start()))
    return [*found, *waiting]


def _describe_quoted(marker: re.Match[str], region: Region, region_line: int) -> str:
    what = f"the {region.kind.value} that begins on line {region_line}"
    end = "take it out of the comment" if region.kind.is_comment else "end that above the marker, or indent this line"
    return f"expected a marker outside strings and comments, got {_shown(marker[0])} inside {what}; {end}"


def _describe_nearly(text: str, start: int) -> str:
    line = text[text.rfind("\n", 0, start) + 1 : _end_of_line(text, start)]
    return (
        "expected `-- migrate:up` or `-- migrate:down` in small letters at the beginning of a line, got "
        f"{_shown(line)}, which would pass as a comment; write the marker like that, or a comment without a colon "
        "behind `migrate`"
    )


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _shown(line: str) -> str:
    stripped = line.rstrip()
    return repr(stripped if len(stripped) <= _SHOWN else "…" + stripped[-_SHOWN:])
