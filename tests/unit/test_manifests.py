"""Annotations set in the text of manifests: the pods get them, and nothing else changes."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from webhook.manifests.annotations import set_annotations
from webhook.manifests.nodes import ManifestError, parse_documents, shared
from webhook.manifests.pod_templates import find_gates, find_templates, objects_of

REVISION = "ledgergate.dev/revision"


def annotate(text: str, annotations: dict[str, str] | None = None) -> str:
    """Annotate every pod template of a text."""
    roots = parse_documents(text)
    nodes = [each.node for each in find_templates(objects_of(roots))]
    return set_annotations(text, nodes, annotations or {REVISION: "1_a"}, shared(roots))


DEPLOYMENT = """\
# A comment at the top.
apiVersion: apps/v1
kind: Deployment   # and here
metadata: {{name: gateway, labels: {{"a": 'b'}}}}
spec:
  template:
{metadata}
    spec:
      # about the containers
      containers:
      - {{name: app, image: "x:1"}}
---
# Source: chart/templates/service.yaml
kind: Service
metadata:
    name:    odd
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '    metadata: {"annotations": {"ledgergate.dev/revision": "1_a"}}'),
        ("    metadata:", '    metadata: {"annotations": {"ledgergate.dev/revision": "1_a"}}'),
        ("    metadata:   # none", '    metadata: {"annotations": {"ledgergate.dev/revision": "1_a"}}   # none'),
        ("    metadata: {}", '    metadata: {"annotations": {"ledgergate.dev/revision": "1_a"}}'),
        ("    metadata: null", '    metadata: {"annotations": {"ledgergate.dev/revision": "1_a"}}'),
        (
            "    metadata:\n      labels: {app: x}",
            '    metadata:\n      annotations: {"ledgergate.dev/revision": "1_a"}\n      labels: {app: x}',
        ),
        (
            "    metadata:\n      labels: {app: x}\n      annotations:",
            '    metadata:\n      labels: {app: x}\n      annotations: {"ledgergate.dev/revision": "1_a"}',
        ),
        (
            "    metadata:\n      annotations:\n        #\n        é: ö #😀",
            '    metadata:\n      annotations:\n        #\n        ledgergate.dev/revision: "1_a"\n        é: ö #😀',
        ),
        (
            "    metadata: {annotations: {a: b}, labels: {app: x}}",
            '    metadata: {annotations: {"ledgergate.dev/revision": "1_a", a: b}, labels: {app: x}}',
        ),
        (
            "    metadata: &m {labels: {app: x}}",
            '    metadata: &m {"annotations": {"ledgergate.dev/revision": "1_a"}, labels: {app: x}}',
        ),
        (
            "    metadata:\n      annotations:\n        ledgergate.dev/revision: 0_old   # 😀\n        b: c",
            '    metadata:\n      annotations:\n        ledgergate.dev/revision: "1_a"   # 😀\n        b: c',
        ),
        (
            "    metadata:\n      annotations:\n        ledgergate.dev/revision: |\n          0_old\n        b: c",
            '    metadata:\n      annotations:\n        ledgergate.dev/revision: "1_a"\n        b: c',
        ),
        (
            "    metadata: {annotations: {'ledgergate.dev/revision': 0_old, b: c}}",
            "    metadata: {annotations: {'ledgergate.dev/revision': \"1_a\", b: c}}",
        ),
        (
            "    metadata:\n      annotations:\n        ledgergate.dev/revision:\n        b: c",
            '    metadata:\n      annotations:\n        ledgergate.dev/revision: "1_a"\n        b: c',
        ),
    ],
)
def test_only_the_annotation_changes(before: str, after: str) -> None:
    """Whichever way the template's metadata are written; a second time changes nothing more."""
    text = DEPLOYMENT.format(metadata=before or "@").replace("@\n", "")
    expected = DEPLOYMENT.format(metadata=after)
    assert annotate(text) == expected
    assert annotate(expected) == expected


def test_line_ends_stay() -> None:
    """Windows line ends are kept, and inserted lines have them too."""
    text = DEPLOYMENT.format(metadata="    metadata:\n      annotations:\n        a: b").replace("\n", "\r\n")
    assert "\n" not in annotate(text).replace("\r\n", "")


def test_every_kind_of_object_with_pods() -> None:
    """Pods, templates, CronJobs, custom resources, and items of Lists; not what only looks like one."""
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "app"}]}}
    documents: list[dict[str, Any]] = [
        {"kind": "Pod", "metadata": {"name": "a"}, **pod},
        {"kind": "StatefulSet", "metadata": {"name": "b"}, "spec": {"template": pod}},
        {
            "kind": "CronJob",
            "metadata": {"name": "c"},
            "spec": {"jobTemplate": {"spec": {"template": pod}}},
        },
        {"kind": "Rollout", "metadata": {"name": "d"}, "spec": {"template": pod}},
        {"kind": "Certificate", "metadata": {"name": "e"}, "spec": {"template": {"spec": {"dnsNames": []}}}},
        {"kind": "List", "items": [{"kind": "Job", "metadata": {"generateName": "f-"}, "spec": {"template": pod}}]},
    ]
    for text in (yaml.safe_dump_all(documents), "\n---\n".join(map(json.dumps, documents))):
        roots = parse_documents(text)
        assert [each.title for each in find_templates(objects_of(roots))] == [
            "pod/a",
            "statefulset/b",
            "cronjob/c",
            "rollout/d",
            "job/f-",
        ]
        found = list(yaml.safe_load_all(annotate(text)))
        assert found[0]["metadata"] == {"name": "a", "annotations": {REVISION: "1_a"}}
        assert found[2]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["annotations"] == {REVISION: "1_a"}
        assert found[4] == documents[4]
        assert found[5]["items"][0]["spec"]["template"]["metadata"]["annotations"] == {REVISION: "1_a"}


@pytest.mark.parametrize(
    "metadata",
    [
        "    metadata: &m {annotations: {a: b}}\n    other: *m",
        "    metadata:\n      annotations: &a {a: b}\n    other: *a",
        "    other: &m {labels: {a: b}}\n    metadata:\n      <<: *m",
        "    other: &m {labels: {a: b}}\n    metadata: *m",
        "    other: &m {metadata: {labels: {a: b}}}\n    <<: *m",
        "    metadata: [1]",
        "    metadata:\n      annotations: text",
    ],
)
def test_metadata_that_stand_elsewhere_are_refused(metadata: str) -> None:
    """An edit of an anchor would change other objects; the message has the line."""
    with pytest.raises(ManifestError, match=r"line \d+: expected"):
        annotate(DEPLOYMENT.format(metadata=metadata))


@pytest.mark.parametrize("text", ["a: [", "\ta: b", "a: b\n- c", "\x00", "a: *b", "[" * 20_000])
def test_what_is_not_yaml_is_refused(text: str) -> None:
    """Text that is not YAML is refused, with its line where the parser knows it."""
    with pytest.raises(ManifestError, match="expected YAML"):
        parse_documents(text)


def test_the_selector_of_a_gate() -> None:
    """It is read from the manifest, whatever its quotes; a broken one is named with its line."""
    text = (
        "apiVersion: ledgergate.dev/v1alpha1\nkind: LedgerGate\nmetadata: {name: shop}\n"
        "spec: {ledger: {dialect: knex}, selector: {matchLabels: {app: gateway}%s}}\n"
    )
    (gate,) = find_gates(objects_of(parse_documents(text % "")))
    assert (gate.name, gate.dialect, gate.selector.matches({"app": "gateway"})) == ("shop", "knex", True)
    assert not gate.selector.matches({"app": "other"})
    for broken in (", matchExpressions: {}", ", matchExpressions: [{key: a, operator: Near}]"):
        with pytest.raises(ManifestError, match=r"line 1: LedgerGate shop: .*matchExpressions"):
            list(find_gates(objects_of(parse_documents(text % broken))))


# YAML has no place for control characters, surrogates and these two: https://yaml.org/spec/1.2.2/#51-character-set
printable = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
scalars = st.none() | st.text(printable, max_size=8)
maps = st.dictionaries(st.text("abc/.é ", min_size=1, max_size=4), scalars, max_size=3)


@given(
    maps | st.none(),
    maps | st.none(),
    st.booleans(),
    st.integers(1, 8),
    st.sampled_from([None, "'", '"']),
    st.text(printable, min_size=1, max_size=8),
)
def test_any_template_gets_the_annotation_and_nothing_else(
    labels: dict[str, str | None] | None,
    annotations: dict[str, str | None] | None,
    flow: bool,
    indent: int,
    quote: str | None,
    value: str,
) -> None:
    """However PyYAML writes it: read again, it is the same object with one more annotation."""
    metadata = {"labels": labels, "annotations": annotations}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "é😀"}]}}
    before = {"kind": "Deployment", "metadata": {"name": "x"}, "spec": {"template": pod}}
    text = yaml.safe_dump(
        before, default_flow_style=flow or None, indent=indent, default_style=quote, allow_unicode=True, width=40
    )
    after = yaml.safe_load(annotate(text, {REVISION: value}))
    metadata["annotations"] = {**(annotations or {}), REVISION: value}
    assert after == before
