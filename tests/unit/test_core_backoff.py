"""Pauses between attempts."""

from migrations.core.backoff import Backoff


def test_the_pause_doubles_up_to_the_longest_and_starts_again_after_a_success() -> None:
    """With the largest jitter each pause has its full length."""
    backoff = Backoff(0.5, 3.0, lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 0.5


def test_jitter_takes_at_most_half_of_a_pause() -> None:
    """With the smallest jitter each pause has half its length."""
    backoff = Backoff(0.5, 3.0, lambda: 0.0)
    assert [backoff.next() for _ in range(4)] == [0.25, 0.5, 1.0, 1.5]


def test_a_limit_shortens_one_pause_and_does_not_stop_the_growth() -> None:
    """The pause after the limited one is as long as without the limit."""
    backoff = Backoff(1.0, 8.0, lambda: 1.0)
    assert [backoff.next(), backoff.next(at_most=0.5), backoff.next()] == [1.0, 0.5, 4.0]
