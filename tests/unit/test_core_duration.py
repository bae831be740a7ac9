"""Durations as Kubernetes writes them."""

from datetime import timedelta

import pytest

from webhook.core.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1h30m", timedelta(minutes=90)),
        ("1h1m1s", timedelta(seconds=3661)),
        ("30m1h", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, duration: timedelta) -> None:
    """Numbers with a unit, in any order, as the CRD allows them for spec.maxHold."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "1.5h", "1h 30m", "٣m", "999999h"])
def test_other_texts_are_refused(text: str) -> None:
    """Other texts are refused, above all a bare number, whose unit is unknown."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "1m30s"), (900, "15m"), (5400, "1h30m"), (0.25, "0.25s"), (0, "0s"), (86400, "24h")]
)
def test_durations_are_formatted_as_they_are_set(seconds: float, text: str) -> None:
    """An Event names spec.maxHold as its author would write it."""
    assert format_duration(timedelta(seconds=seconds)) == text
