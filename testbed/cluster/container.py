"""The command and environment of a container, by the pod's specification.

The rules are those of https://kubernetes.io/docs/tasks/inject-data-application/ (commands, dependent variables).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]
Lookup = Callable[[str, str], Mapping[str, str]]
"""(kind, name) -> data of a Secret or ConfigMap of the pod's namespace, decoded."""

_REFERENCE = re.compile(r"\$(\$|\([A-Za-z_][A-Za-z0-9_.-]*\))")


@dataclass(frozen=True, slots=True)
class Image:
    """The substitute of a container image on this machine.

    Attributes:
        directory: Working directory of its commands.
        entrypoint: Command of a container whose specification has none.
        path: Directories of its programs, searched before those of the machine.
    """

    directory: Path
    entrypoint: tuple[str, ...] = ()
    path: tuple[Path, ...] = field(default=())


class ConfigurationError(Exception):
    """No kubelet could create the container: a Secret, a key or an image does not exist."""


def command(container: Object, image: Image, environment: Mapping[str, str]) -> list[str]:
    """Return the command line of a container."""
    words = [*(container.get("command") or image.entrypoint), *container.get("args", ())]
    return [expand(word, environment) for word in words]


def environment(pod: Object, container: Object, lookup: Lookup) -> dict[str, str]:
    """Return the environment of a container.

    Raises:
        ConfigurationError: It refers to a Secret, ConfigMap or key that does not exist.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        for kind, reference in source.items():
            if kind in {"secretRef", "configMapRef"}:
                prefix = source.get("prefix", "")
                found |= {f"{prefix}{key}": value for key, value in lookup(kind[:-3], reference["name"]).items()}
    for name, value in _variables(pod, container, lookup):
        found[name] = expand(value, found)
    return found


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$(NAME)` if NAME is set, and `$$` by a dollar sign."""

    def value(match: re.Match[str]) -> str:
        reference = match[1]
        return "$" if reference == "$" else environment.get(reference[1:-1], match[0])

    return _REFERENCE.sub(value, text)


def _variables(pod: Object, container: Object, lookup: Lookup) -> Iterator[tuple[str, str]]:
    for variable in container.get("env", ()):
        source = variable.get("valueFrom")
        if source is None:
            yield variable["name"], variable.get("value", "")
        elif "fieldRef" in source:
            yield variable["name"], _field(pod, source["fieldRef"]["fieldPath"])
        else:
            (kind, reference), *_ = source.items()
            data = lookup(kind.removesuffix("KeyRef"), reference["name"])
            if reference["key"] in data:
                yield variable["name"], data[reference["key"]]
            elif not reference.get("optional"):
                raise ConfigurationError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


def _field(pod: Object, path: str) -> str:
    keyed = re.fullmatch(r"metadata\.(annotations|labels)\['(.+)'\]", path)
    if keyed:
        return str(pod["metadata"].get(keyed[1], {}).get(keyed[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)
