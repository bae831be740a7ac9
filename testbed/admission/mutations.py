"""Mutations of JSON documents and of their bytes, seeded."""

import json
import random
from collections.abc import MutableMapping, MutableSequence
from copy import deepcopy
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    1e308,
    "",
    "\0",
    "x" * 3000,
    "\u202e漢😀",
    "true",
    "CREATE",
    "DELETE",
    "2026-01-26T12:00:00Z",
    "9999-12-31T23:59:59.999999+14:00",
    "20260101000000_users+2.0123456789ab",
    [],
    [None],
    {},
    {"": ""},
    [[[[[[[[[[]]]]]]]]]],
)
"""Values that replace others."""
TEXTS = (b"\\ud800", b"\xff", b"\0", b"NaN", b"1e999", b"[" * 2000, b"{", b"}", b'"', b",", b"\xef\xbb\xbf", b"-")
"""Bytes that are inserted."""


def mutated(document: bytes, chance: random.Random) -> bytes:
    """Return a document with up to three mutations of its values, and now and then some of its bytes."""
    found = json.loads(document)
    for _ in range(chance.randint(0, 3)):
        mutate(found, chance)
    text = json.dumps(found).encode()
    if chance.random() < 0.2:
        return garbled(text, chance)
    return text


def garbled(text: bytes, chance: random.Random) -> bytes:
    """Return bytes with one of them flipped, a part cut out or repeated, the end cut off, or others inserted."""
    at = chance.randrange(len(text) + 1)
    match chance.randrange(5):
        case 0:
            return text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
        case 1:
            return text[:at] + text[at + chance.randrange(40) :]
        case 2:
            return text[:at] + text[max(0, at - chance.randrange(40)) :]
        case 3:
            return text[:at]
        case _:
            return text[:at] + chance.choice(TEXTS) + text[at:]


def mutate(document: Any, chance: random.Random) -> None:
    """Change one value, at any depth."""
    place = document
    while True:
        keys: Any = list(place) if isinstance(place, MutableMapping) else range(len(place))
        if not keys:
            return
        key = chance.choice(keys)
        below = place[key]
        if isinstance(below, MutableMapping | MutableSequence) and below and chance.random() < 0.93:
            place = below
            continue
        break
    match chance.randrange(4):
        case 0:
            del place[key]
        case 1 if isinstance(place, MutableMapping):
            place[chance.choice((key.upper(), key + "x", ""))] = below
        case _:
            place[key] = deepcopy(chance.choice(ODD))  # or the next mutation would change the values here
