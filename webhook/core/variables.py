"""The value of a container's environment variable, as far as the pod's spec shows it. Pure.

https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

import re

from webhook.api.objects import Container

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_MAX_VALUE = 1000  # characters of a value that are read: references to references can make it grow


def literal_value(container: Container, name: str) -> str | None:
    """Return the value of a variable; None where it is not set, or is not known before the container starts.

    ``$(OTHER)`` stands for a variable that is set before it, ``$$`` for ``$``. A value from a ConfigMap or Secret is
    not known, and neither is a value that refers to it. Of two variables of one name the last counts.
    """
    known: dict[str, str | None] = {}
    for variable in container.env or ():
        known[variable.name] = None if variable.value is None else _expand(variable.value, known)
    return known.get(name)


def is_set(container: Container, name: str) -> bool:
    """Return whether a container has a variable of this name, whatever its value."""
    return any(variable.name == name for variable in container.env or ())


def _expand(text: str, known: dict[str, str | None]) -> str | None:
    if "$" not in text:
        return text
    found: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(text[:_MAX_VALUE]):
        value = "$" if match[1] is None else known.get(match[1])
        if value is None:
            return None
        found += text[end : match.start()], value
        end = match.end()
    return ("".join(found) + text[end:])[:_MAX_VALUE]
