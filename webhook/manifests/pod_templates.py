"""The pod templates and LedgerGates of rendered manifests, and which templates are chosen. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
import yaml

from webhook.api.objects import API_GROUP, LabelSelector
from webhook.core.selector import Selector, compile_selector
from webhook.manifests.nodes import ManifestError, entry, line_of, plain, strings_of, text_of

TEMPLATE_PATHS = (("spec", "template"), ("spec", "jobTemplate", "spec", "template"), ("template",))
"""Where a workload has its template: Deployments and their like, CronJobs, PodTemplates."""


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod, or the template of one.

    Args:
        node: the mapping that has ``metadata`` and ``spec``.
        kind: of the object that has it.
        name: of that object.
        namespace: of that object; empty where it is not written.
    """

    node: yaml.MappingNode
    kind: str
    name: str
    namespace: str

    @property
    def title(self) -> str:
        """The name that kubectl prints: ``deployment/gateway``."""
        return f"{self.kind.lower()}/{self.name}"

    @property
    def labels(self) -> Mapping[str, str]:
        """The pods' labels."""
        return strings_of(entry(self.node, "metadata", "labels"))


@dataclass(frozen=True, slots=True)
class GateManifest:
    """A LedgerGate among the manifests.

    Args:
        name: its name.
        namespace: its namespace; empty where it is not written.
        dialect: of its ledger.
        selector: which pods it is for.
    """

    name: str
    namespace: str
    dialect: str
    selector: Selector


def objects_of(roots: Iterable[yaml.Node]) -> Iterator[yaml.MappingNode]:
    """Yield every object, those of a List and of a kustomize ResourceList too."""
    for root in roots:
        if not isinstance(root, yaml.MappingNode):
            continue
        items = entry(root, "items")
        if isinstance(items, yaml.SequenceNode) and text_of(root, "kind").endswith("List"):
            yield from objects_of(items.value)
        else:
            yield root


def find_templates(objects: Iterable[yaml.MappingNode]) -> Iterator[PodTemplate]:
    """Yield every pod template, whatever kind of object has it: some controller makes pods of it."""
    for each in objects:
        identity = text_of(each, "kind"), _name(each), text_of(each, "metadata", "namespace")
        if identity[0] == "Pod":
            yield PodTemplate(each, *identity)
            continue
        for path in TEMPLATE_PATHS:
            node = entry(each, *path)
            if isinstance(node, yaml.MappingNode) and isinstance(entry(node, "spec", "containers"), yaml.SequenceNode):
                yield PodTemplate(node, *identity)


def find_gates(objects: Iterable[yaml.MappingNode]) -> Iterator[GateManifest]:
    """Yield every LedgerGate.

    Raises:
        ManifestError: a selector is not valid.
    """
    for each in objects:
        if text_of(each, "kind") != "LedgerGate" or not text_of(each, "apiVersion").startswith(f"{API_GROUP}/"):
            continue
        name = _name(each)
        try:
            selector, problems = compile_selector(
                msgspec.convert(plain(entry(each, "spec", "selector")) or {}, LabelSelector)
            )
        except msgspec.ValidationError as error:
            raise ManifestError(f"line {line_of(each)}: LedgerGate {name}: spec.selector: {error}") from error
        if problems:
            raise ManifestError(f"line {line_of(each)}: LedgerGate {name}: {'; '.join(problems)}")
        yield GateManifest(
            name,
            text_of(each, "metadata", "namespace"),
            text_of(each, "spec", "ledger", "dialect"),
            selector,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """Which templates are annotated. What is not given does not count.

    Args:
        gate: a LedgerGate whose selector must match, in whose namespace the pods are.
        selector: labels that the pods must have.
        workloads: KIND/NAME in small letters, one of which must be the object; empty for all.
    """

    gate: GateManifest | None = None
    selector: Selector | None = None
    workloads: frozenset[str] = frozenset()

    def includes(self, template: PodTemplate) -> bool:
        """Return whether a template is chosen."""
        if self.workloads and template.title not in self.workloads:
            return False
        if self.selector is not None and not self.selector.matches(template.labels):
            return False
        if self.gate is None:
            return True
        elsewhere = self.gate.namespace and template.namespace and self.gate.namespace != template.namespace
        return not elsewhere and self.gate.selector.matches(template.labels)


def _name(node: yaml.MappingNode) -> str:
    return text_of(node, "metadata", "name") or text_of(node, "metadata", "generateName")
