"""The controller's service account, which the manifests name inside CEL conditions on the user."""

import re
from collections.abc import Iterable

_NAMED = re.compile(r"'(system:serviceaccount:[^']*:controller)'")

REMEDY = (
    "kustomize's `namespace` changes no CEL expression: add `transformers: [.../manifests/transformers/namespace]` to "
    "your kustomization and apply it again"
)


def controller_account(namespace: str) -> str:
    """Return the user name of the controller's service account, for ledgergate in a namespace."""
    return f"system:serviceaccount:{namespace}:controller"


def find_other_accounts(expressions: Iterable[str], namespace: str) -> tuple[str, ...]:
    """Return the controller accounts of other namespaces that CEL conditions name, sorted.

    Args:
        expressions: CEL expressions of an installation. An expression that also names the right account is correct.
        namespace: of the controller.
    """
    own, others = controller_account(namespace), set[str]()
    for expression in expressions:
        named = _NAMED.findall(expression)
        if own not in named:
            others.update(named)
    return tuple(sorted(others))
