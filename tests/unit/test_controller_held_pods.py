"""The counts of held pods are kept as pods come, wait and go."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from webhook.api.objects import Metadata, Pod
from webhook.controller.held_pods import HeldCount, HeldPod, HeldPods

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
GATES = ("a", "b", "c")
PODS = ("one", "two")

steps = st.lists(
    st.tuples(
        st.sampled_from(["wait", "overdue", "remove"]),
        st.sampled_from(PODS),
        st.frozensets(st.sampled_from(GATES), max_size=3),
    ),
    max_size=30,
)


def held(name: str, namespace: str = "ns") -> HeldPod:
    return HeldPod(Pod(metadata=Metadata(namespace=namespace, name=name, uid=name)), 0.0, NOW)


@given(steps)
def test_counts_are_those_of_the_pods(story: list[tuple[str, str, frozenset[str]]]) -> None:
    """After any sequence of events a gate counts the pods that wait for it, and those that wait for too long."""
    pods = HeldPods()
    for step, name, gates in story:
        key = ("ns", name)
        found = pods.get(key)
        if found is None:
            found = held(name)
            pods.add(found)
        match step:
            case "wait":
                before = found.waits_for
                assert pods.set_waits(found, gates) == before ^ gates
            case "overdue":
                for gate in gates:
                    pods.set_overdue(found, gate)
            case _:
                pods.remove(found)
    present = [each for name in PODS if (each := pods.get(("ns", name)))]
    for gate in GATES:
        waiting = [each for each in present if gate in each.waits_for]
        late = [each for each in waiting if gate in each.overdue]
        assert pods.count(("ns", gate)) == HeldCount(len(waiting), len(late))
    assert pods.namespaces == (("ns",) if present else ())


def test_only_pods_that_are_due_are_looked_at() -> None:
    """A pod without a time, or with a later one, is left alone."""
    pods = HeldPods()
    for name, due in (("never", None), ("later", NOW + timedelta(seconds=1)), ("now", NOW)):
        each = held(name)
        each.next_overdue = due
        pods.add(each)
    assert [each.pod.metadata.name for each in pods.due(NOW)] == ["now"]
