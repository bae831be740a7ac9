"""Laws of a gate that asks images, whatever the pod says of itself, and whichever webhook answers."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from tests.admission_chain import NOW, Ledgers, create
from tests.policies import policies
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.images import ExpectedImage, ImageRecord, UnknownImage
from webhook.core.selector import Selector

NAMES = [f"2026010{day}000000_m{day}" for day in range(1, 5)]
KNOWN = {f"app:{number}": f"registry/app@sha256:{number:064x}" for number in range(1, 5)}
HELD = policies.filter(lambda policy: policy.on_behind is not Action.WARN and policy.bypass_until in {None, NOW})

words = st.sampled_from([*NAMES, "a+b", "", NAMES[3] + "+4.0123456789ab"])
own_words = st.dictionaries(st.sampled_from(["ledgergate.dev/revision", "revision.ledgergate.dev/app"]), words)


def asking(policy: Policy, labels: dict[str, str | None], container: str | None = None) -> Gate:
    """Return a gate that asks images, and knows these labels."""
    known = {name: ImageRecord(KNOWN[name], labels[name], references=(name,)) for name in labels}
    images = known | {KNOWN[name].partition("@")[2]: record for name, record in known.items()}
    return Gate(
        "ns",
        "app",
        Selector(),
        "pg",
        "ledgergate",
        policy=replace(policy, mode=Mode.ENFORCE),
        expect_env="EXPECTED",
        expect_image=ExpectedImage(container),
        images=images,
    )


@st.composite
def pods(draw: st.DrawFn, images: list[str]) -> dict[str, Any]:
    """A pod with these images, which says anything of itself."""
    env = draw(st.none() | words)
    containers: list[dict[str, Any]] = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    if env is not None:
        containers[0]["env"] = [{"name": "EXPECTED", "value": env}]
    spec: dict[str, Any] = {"containers": containers}
    split = draw(st.integers(0, len(containers) - 1))
    if split:
        spec = {"containers": containers[split:], "initContainers": containers[:split]}
    if draw(st.booleans()):
        spec["nodeName"] = "node-0"
    return {"metadata": {"labels": {"app": "x"}, "annotations": draw(own_words)}, "spec": spec}


def ledger(*names: str) -> LedgerSnapshot:
    return LedgerSnapshot(Ledger.of(Record(name, State.APPLIED) for name in names), NOW)


@given(st.data(), HELD, st.booleans(), st.booleans())
def test_what_the_image_needs_and_the_ledger_lacks_holds_the_pod(
    data: st.DataObject, policy: Policy, in_process: bool, mutating: bool
) -> None:
    """Whatever annotation and variable say, a pod whose image needs what the ledger lacks is not let in ungated."""
    applied = data.draw(st.integers(0, 2))
    lacked = data.draw(st.sampled_from(NAMES[applied:]))
    others = data.draw(st.lists(st.sampled_from(["app:2", "app:3", "app:4"]), max_size=2, unique=True))
    labels: dict[str, str | None] = {"app:1": lacked}
    labels |= {name: data.draw(st.none() | st.sampled_from(NAMES)) for name in others if data.draw(st.booleans())}
    images = data.draw(st.permutations(["app:1", *others]))
    view = Ledgers([asking(policy, labels)], ledger(*NAMES[:applied]))
    created = create(view, data.draw(pods(images)), policy=in_process, mutating=mutating)
    assert created.gated or not created.final.allowed


@given(st.data(), HELD, st.booleans())
def test_an_unknown_image_holds_the_pod(data: st.DataObject, policy: Policy, in_process: bool) -> None:
    """Whatever the pod says of itself, admission does not let it in before its image is known."""
    view = Ledgers([asking(policy, {})], ledger(*NAMES))
    created = create(view, data.draw(pods(["app:1"])), policy=in_process)
    assert created.gated or not created.final.allowed


@given(st.data(), HELD, st.sampled_from(NAMES), st.booleans())
def test_what_the_image_needs_and_the_ledger_has_is_good(
    data: st.DataObject, policy: Policy, name: str, in_process: bool
) -> None:
    """Whatever annotation and variable say, a pod whose image's needs are met starts, unless `onAhead` forbids it."""
    gate = asking(replace(policy, on_ahead=Action.ALLOW), {"app:1": name})
    created = create(Ledgers([gate], ledger(*NAMES)), data.draw(pods(["app:1"])), policy=in_process)
    assert created.final.allowed
    assert not created.gated


@given(st.data(), HELD)
def test_the_label_decides_as_an_annotation_would(data: st.DataObject, policy: Policy) -> None:
    """A pod whose image has a label is judged as the same pod with that annotation under a gate that asks no image."""
    name, applied = data.draw(st.sampled_from(NAMES)), data.draw(st.integers(0, 4))
    pod = data.draw(pods(["app:1"]))
    gate = asking(policy, {"app:1": name})
    by_label = create(Ledgers([gate], ledger(*NAMES[:applied])), pod)
    annotated = pod | {"metadata": pod["metadata"] | {"annotations": {"ledgergate.dev/revision": name}}}
    by_annotation = create(Ledgers([replace(gate, expect_image=None)], ledger(*NAMES[:applied])), annotated)
    assert by_label.final.verdict.reason is by_annotation.final.verdict.reason
    assert by_label.final.verdict.outcome is by_annotation.final.verdict.outcome
    assert by_label.gated is by_annotation.gated


@given(st.data(), HELD, st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_labels_that_differ_are_denied_and_named(data: st.DataObject, policy: Policy, one: str, two: str) -> None:
    """A pod with two images that need different revisions is denied, and both are named."""
    if one == two:
        return
    view = Ledgers([asking(policy, {"app:1": one, "app:2": two})], ledger(*NAMES))
    created = create(view, data.draw(pods(["app:1", "app:2"])))
    assert not created.final.allowed
    assert one in created.final.message
    assert two in created.final.message


@given(st.data(), HELD, st.sampled_from(NAMES))
def test_an_image_that_cannot_be_read_opens_nothing(data: st.DataObject, policy: Policy, name: str) -> None:
    """By its annotation alone a pod may then start; without one it is held."""
    unread = UnknownImage("app:1", "the registry does not answer")
    view = Ledgers([asking(policy, {})], ledger(NAMES[0]), unread=unread)
    pod = data.draw(pods(["app:1"]))
    pod["metadata"]["annotations"] = {"ledgergate.dev/revision": name}
    created = create(view, pod)
    if name != NAMES[0]:
        assert created.gated or not created.final.allowed
    elif created.final.allowed and not created.gated:
        assert any("cannot be read" in warning for warning in created.final.warnings)
