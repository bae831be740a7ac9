"""What a pod requires of a gate's ledger, and where it declares that."""

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from migrations.core.revision import Revision
from webhook.api.objects import Pod
from webhook.core.requirement import (
    MAX_ANCESTORS,
    REVISION,
    Requirement,
    Source,
    SourceKind,
    declares_revision,
    read_requirement,
)

ANNOTATION = Source(SourceKind.ANNOTATION, REVISION)
LONG = "20260102000000_b+2.0123456789ab"


def pod(
    annotations: dict[str, str] | None = None, env: list[dict[str, Any]] | None = None, where: str = "containers"
) -> Pod:
    """Return a pod as the API server sends it."""
    spec: dict[str, Any] = {"containers": [{"name": "main"}]}
    spec[where] = [{"name": "first"}, {"name": "second", "env": env}]
    sent = msgspec.json.encode({"metadata": {"annotations": annotations}, "spec": spec})
    return msgspec.json.decode(sent, type=Pod)


def test_a_pod_that_declares_nothing_requires_nothing() -> None:
    """No annotation and no variable: undeclared."""
    assert read_requirement(pod(), "app") == Requirement()
    assert read_requirement(Pod(), "app", "EXPECTED") == Requirement()


def test_the_annotation_declares_revision() -> None:
    """Both forms are read, and a file extension is ignored."""
    assert read_requirement(pod({"ledgergate.dev/revision": "a.ts"}), "app").expected == Revision("a")
    found = read_requirement(pod({"ledgergate.dev/revision": LONG}), "app").expected
    assert found == Revision("20260102000000_b", 2, "0123456789ab")


def test_the_annotation_for_the_gate_takes_precedence() -> None:
    """A pod with several databases declares a revision for one gate, and another for all other gates."""
    both = pod({"ledgergate.dev/revision": "general", "revision.ledgergate.dev/app": "own"})
    assert read_requirement(both, "app").expected == Revision("own")
    assert read_requirement(both, "other").expected == Revision("general")


def test_annotations_take_precedence_over_the_environment() -> None:
    """An annotation is set on purpose, and overrides the environment."""
    both = pod({"ledgergate.dev/revision": "a"}, [{"name": "EXPECTED", "value": "b"}])
    assert read_requirement(both, "app", "EXPECTED").expected == Revision("a")


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_the_environment_declares_in_any_container(where: str) -> None:
    """The variable counts in any container or init container, but only if the gate names it."""
    found = pod(env=[{"name": "OTHER", "value": "x"}, {"name": "EXPECTED", "value": "b"}], where=where)
    assert read_requirement(found, "app", "EXPECTED").expected == Revision("b")
    assert read_requirement(found, "app") == Requirement()


def test_the_environment_counts_only_when_literal() -> None:
    """A value from a reference is not known at admission, and declares nothing."""
    referred = pod(env=[{"name": "EXPECTED", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}])
    assert read_requirement(referred, "app", "EXPECTED") == Requirement()
    both = pod(env=[{"name": "EXPECTED", "valueFrom": {}}, {"name": "EXPECTED", "value": "b"}])
    assert read_requirement(both, "app", "EXPECTED").expected == Revision("b")


@pytest.mark.parametrize("text", ["", "  ", "a+b", "a+0.0123456789ab", "a\nb", "x" * 2600])
def test_a_revision_that_cannot_be_parsed_is_invalid(text: str) -> None:
    """It is kept for the message, and the next source is not tried."""
    broken = pod({"revision.ledgergate.dev/app": text, "ledgergate.dev/revision": "a"})
    assert read_requirement(broken, "app") == Requirement(
        invalid=text[:200], source=Source(SourceKind.ANNOTATION, "revision.ledgergate.dev/app")
    )


@pytest.mark.parametrize(("value", "migrates"), [("app", True), ("other, app", True), ("other", False), ("", False)])
def test_the_migrator_names_its_gates(value: str, migrates: bool) -> None:
    """A pod migrates the gates that its annotation lists, and no other."""
    assert read_requirement(pod({"ledgergate.dev/migrates": value}), "app").migrates is migrates


def test_the_migrator_may_declare_too() -> None:
    """A pod may bring the migrations and declare a revision, even an invalid one."""
    found = read_requirement(pod({"ledgergate.dev/migrates": "app", "ledgergate.dev/revision": "a"}), "app")
    assert found == Requirement(Revision("a"), migrates=True, source=ANNOTATION)
    found = read_requirement(pod({"ledgergate.dev/migrates": "app", "ledgergate.dev/revision": ""}), "app")
    assert found == Requirement(invalid="", migrates=True, source=ANNOTATION)


@pytest.mark.parametrize(
    ("annotations", "declared"),
    [
        (None, False),
        ({}, False),
        ({"ledgergate.dev/migrates": "app"}, False),
        ({"ledgergate.dev/revision": ""}, True),
        ({"revision.ledgergate.dev/other": "a"}, True),
    ],
)
def test_a_pod_declares_by_any_of_the_annotations(annotations: dict[str, str] | None, declared: bool) -> None:
    """Even an invalid annotation declares a revision; an environment variable counts only for a gate that names it."""
    assert declares_revision(pod(annotations, [{"name": "EXPECTED", "value": "a"}])) is declared


@pytest.mark.parametrize(
    ("annotations", "ancestors"),
    [
        ({}, None),
        ({"ledgergate.dev/ancestors": ""}, ()),
        ({"ledgergate.dev/ancestors": "a, b.py,,c ,"}, ("a", "b", "c")),
        ({"ledgergate.dev/ancestors": "a", "ancestors.ledgergate.dev/app": "b"}, ("b",)),
        ({"ledgergate.dev/ancestors": "a", "ancestors.ledgergate.dev/other": "b"}, ("a",)),
    ],
)
def test_a_pod_may_declare_the_ancestors_of_its_revision(
    annotations: dict[str, str], ancestors: tuple[str, ...] | None
) -> None:
    """A list for the gate or for any gate; blanks, empty entries and extensions are ignored. It may be empty."""
    found = read_requirement(pod({"ledgergate.dev/revision": "z", **annotations}), "app")
    wanted = None if ancestors is None else frozenset(ancestors)
    assert found == Requirement(Revision("z"), ancestors=wanted, source=ANNOTATION)


HUGE = 240_000  # characters; the API server takes annotations of 256 KiB


@pytest.mark.parametrize(
    "declared",
    ["." * HUGE, ".sql" * (HUGE // 4), ".ts" * (HUGE // 3) + "x", "a+" * (HUGE // 2), " " * HUGE + "a+", "é" * HUGE],
    ids=["dots", "extensions", "extensions, then a letter", "plus", "blanks", "letters"],
)
def test_a_huge_revision_is_refused_at_once(declared: str) -> None:
    """Its length is checked before anything else; of 300 gates each decides in well under a millisecond."""
    huge = pod({"ledgergate.dev/revision": declared})
    began = time.process_time()
    for _ in range(300):
        found = read_requirement(huge, "app")
    assert time.process_time() - began < 1
    assert found.invalid is not None
    assert len(found.invalid) <= 200
    by_variable = read_requirement(pod(env=[{"name": "EXPECTED", "value": declared}]), "app", "EXPECTED")
    assert by_variable == replace(found, source=Source(SourceKind.VARIABLE, "EXPECTED"))


def test_huge_lists_cost_little() -> None:
    """Ancestors that are too many count as not declared, since some of them alone could open a gate wrongly."""
    huge = {"ledgergate.dev/revision": "a", "ledgergate.dev/migrates": "x," * (HUGE // 2) + "app"}
    within, beyond = "x.ts.ts," * (MAX_ANCESTORS // 8), ".sql" * (MAX_ANCESTORS // 4) + ","
    began = time.process_time()
    for text, known in (within, True), (beyond, False):
        for _ in range(300):
            found = read_requirement(pod(huge | {"ledgergate.dev/ancestors": text}), "app")
        assert (found.ancestors is not None) is known
        assert not found.migrates
    assert time.process_time() - began < 3


@pytest.mark.parametrize("env", [{"EXPECTED": "b"}, "EXPECTED=b", [{"value": "b"}], [{"name": "EXPECTED", "value": 3}]])
def test_an_environment_of_another_form_declares_nothing(env: Any) -> None:
    """The API server sends a list of variables; anything else is no declaration, and no error either."""
    assert read_requirement(pod(env=env), "app", "EXPECTED") == Requirement()
