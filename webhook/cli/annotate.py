"""`ledgergate annotate`: a filter that writes what a directory needs into the pod templates of rendered manifests."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import click
import msgspec
import yaml

from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import declare_directory
from migrations.core.contract import ContractError
from migrations.core.declaration import ANCESTORS_ANNOTATION, CONTRACT_ANNOTATION, REVISION_ANNOTATION
from migrations.core.migration import FilesError
from migrations.core.revision import RevisionError
from migrations.files.external import ExternalFilesError
from webhook.api.objects import LabelSelector
from webhook.core.selector import Selector, compile_selector
from webhook.manifests.annotations import set_annotations
from webhook.manifests.nodes import ManifestError, entry, parse_documents, plain, shared, strings_of, text_of
from webhook.manifests.pod_templates import Choice, GateManifest, find_gates, find_templates, objects_of

_MARK = "\ufeff"  # of byte order, which editors on Windows write
_ERRORS = (ManifestError, FilesError, ExternalFilesError, RevisionError, ContractError, LookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What to write where: from flags, or from a kustomize function's configuration."""

    dir: str | None = None
    dialect: str | None = None
    gate: str | None = None
    selector: str | None = None
    workload: tuple[str, ...] = ()


class _FunctionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``data`` or ``spec`` of a kustomize function's configuration, whose lists may also be words."""

    dir: str | None = None
    dialect: str | None = None
    gate: str | None = None
    selector: str | None = None
    workload: str | list[str] = ""


@click.command(
    epilog=format_examples(
        "helm template shop ./chart | ledgergate annotate -f - --dialect knex --dir db/migrations | kubectl apply -f -",
        "kustomize build . | ledgergate annotate --workload deployment/gateway | kubectl apply -f -",
        "ledgergate annotate -f manifests.yaml --gate shop > annotated.yaml",
    )
)
@flag("--filename", "File of manifests; - is standard input.", "-f", default="-", metavar="PATH")
@flag("--dir", "Directory of the migrations.", show_default="./migrations", metavar="PATH")
@flag("--dialect", "Tool whose directory it is. Without it: the LedgerGate's, else ledgergate.", metavar="NAME")
@flag(
    "--gate",
    "LedgerGate that the directory is for. The annotation is then revision.ledgergate.dev/NAME, which says nothing to "
    "other LedgerGates. Its selector counts, if it is among the manifests.",
    metavar="NAME",
)
@flag("--selector", "Labels of the pods, as KEY=VALUE[,KEY=VALUE].", "-l", metavar="LABELS")
@flag("--workload", "Object whose pods they are; may be repeated.", multiple=True, metavar="KIND/NAME")
def annotate(
    filename: str,
    dir: str | None,  # noqa: A002 - click's name of the flag
    dialect: str | None,
    gate: str | None,
    selector: str | None,
    workload: tuple[str, ...],
) -> None:
    """Write the revision that a directory needs into rendered manifests, as an annotation of the pods that need it.

    For images without labels. Reads YAML or JSON and writes it to standard output with the annotations set; comments,
    order and everything else stay as they are. The pods are those of --workload, of --selector, or of the LedgerGate
    among the manifests. Works as Helm's post-renderer, and as a kustomize function, whose configuration has the flags'
    names. Exits 2, and writes nothing, when no pod is chosen or the directory has problems.
    """
    options = _Options(dir=dir, dialect=dialect, gate=gate, selector=selector, workload=workload)
    try:
        with click.open_file(filename, "rb") as file:
            text = file.read().decode()  # not as text, which would change the line ends
        annotated, titles = _annotate(text.removeprefix(_MARK), options)
    except _ERRORS as error:
        for problem in getattr(error, "problems", (error,)):
            click.echo(f"ledgergate: {problem}", err=True)
        sys.exit(Exit.USAGE)
    except (OSError, UnicodeDecodeError) as error:
        click.echo(f"ledgergate: {filename}: expected a text that can be read: {error}", err=True)
        sys.exit(Exit.USAGE)
    click.echo((annotated if not text.startswith(_MARK) else _MARK + annotated).encode(), nl=False)
    click.echo(f"ledgergate: annotated {', '.join(titles)}", err=True)


def _annotate(text: str, flags: _Options) -> tuple[str, list[str]]:
    roots = parse_documents(text)
    options = _configured(roots, flags)
    objects = list(objects_of(roots))
    gate = _find_gate(list(find_gates(objects)), options)
    # Pods that are named are chosen, whatever a LedgerGate that is not named selects.
    named = options.gate is None and (options.selector is not None or options.workload)
    choice = Choice(None if named else gate, _selector(options.selector), _workloads(options.workload))
    if choice.gate is None and choice.selector is None and not choice.workloads:
        raise ManifestError(
            "expected a LedgerGate among the manifests, or the pods named with --workload or --selector; found neither"
        )
    templates = list(find_templates(objects))
    chosen = [each for each in templates if choice.includes(each)]
    absent = choice.workloads - {each.title for each in chosen}
    if absent or not chosen:
        there = ", ".join(sorted({each.title for each in templates})) or "no pod template"
        raise ManifestError(f"expected pods of {', '.join(sorted(absent)) or _describe(choice)}; found {there}")
    dialect = options.dialect or (gate.dialect if gate else None)
    declaration, _ = declare_directory([Path(options.dir or "migrations")], dialect or None)
    annotations = _for_gate(declaration.annotations(), options.gate)
    annotated = set_annotations(
        text, [each.node for each in chosen], annotations, shared(roots), emptied=(CONTRACT_ANNOTATION,)
    )
    _check(annotated, {index for index, each in enumerate(templates) if each in chosen}, annotations)
    return annotated, sorted({each.title for each in chosen})


def _check(text: str, chosen: set[int], annotations: Mapping[str, str]) -> None:
    """Read the result again: YAML has more spellings than an edit may know, and a pod must not start unguarded."""
    templates = list(find_templates(objects_of(parse_documents(text))))
    for index in chosen:
        found = strings_of(entry(templates[index].node, "metadata", "annotations"))
        if not annotations.items() <= found.items():
            raise ManifestError(
                f"{templates[index].title}: expected metadata in the usual form of YAML: write it without `?` and tags"
            )


def _configured(roots: Sequence[yaml.Node], flags: _Options) -> _Options:
    """Complete the flags by ``functionConfig`` of a kustomize ResourceList.

    Source: https://github.com/kubernetes-sigs/kustomize/blob/master/cmd/config/docs/api-conventions/functions-spec.md
    """
    if not roots or text_of(roots[0], "kind") != "ResourceList":
        return flags
    function = entry(roots[0], "functionConfig")
    given = plain(entry(function, "data") or entry(function, "spec")) or {}
    try:
        found = msgspec.convert(given, _FunctionConfig)
    except msgspec.ValidationError as error:
        raise ManifestError(
            f"functionConfig: {error}; expected {', '.join(f.name for f in fields(_Options))}"
        ) from error
    workloads = found.workload.split() if isinstance(found.workload, str) else found.workload
    configured = {"dir": found.dir, "dialect": found.dialect, "gate": found.gate, "selector": found.selector}
    missing = {name: value for name, value in configured.items() if getattr(flags, name) is None}
    return replace(flags, workload=flags.workload or tuple(workloads), **missing)


def _find_gate(gates: Sequence[GateManifest], options: _Options) -> GateManifest | None:
    if options.gate is not None:
        named = [each for each in gates if each.name == options.gate]
        if len(named) > 1:
            raise ManifestError(f"expected one LedgerGate {options.gate}, found {len(named)}")
        return named[0] if named else None
    if len(gates) > 1 and not (options.selector or options.workload):
        names = ", ".join(sorted(each.name for each in gates))
        raise ManifestError(f"expected one LedgerGate, found {names}: name the directory's with --gate")
    return gates[0] if len(gates) == 1 else None


def _selector(text: str | None) -> Selector | None:
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key and equals and not value.startswith(("=", "~")) for key, equals, value in pairs):
        raise ManifestError(f"expected --selector KEY=VALUE[,KEY=VALUE], got {text!r}")
    return compile_selector(LabelSelector(match_labels={key.strip(): value.strip() for key, _, value in pairs}))[0]


def _workloads(names: Iterable[str]) -> frozenset[str]:
    found = []
    for name in names:
        kind, slash, rest = name.partition("/")
        if not (kind and slash and rest):
            raise ManifestError(f"expected --workload KIND/NAME, such as deployment/gateway, got {name!r}")
        found.append(f"{kind.lower()}/{rest}")
    return frozenset(found)


def _for_gate(annotations: dict[str, str], gate: str | None) -> dict[str, str]:
    """Return the annotations under the names that speak to one LedgerGate."""
    if gate is None:
        return annotations
    names = {
        REVISION_ANNOTATION: f"revision.ledgergate.dev/{gate}",
        ANCESTORS_ANNOTATION: f"ancestors.ledgergate.dev/{gate}",
    }
    return {names.get(name, name): value for name, value in annotations.items()}


def _describe(choice: Choice) -> str:
    return f"LedgerGate {choice.gate.name}" if choice.gate and choice.selector is None else "the selector"
