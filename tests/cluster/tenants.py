"""The objects of a tenant: a LedgerGate and its Secret."""

from typing import Any


def gate(name: str, secret: str, dialect: str = "ledgergate") -> dict[str, Any]:
    """Return a LedgerGate that selects no pod of another one."""
    return {
        "apiVersion": "ledgergate.dev/v1alpha1",
        "kind": "LedgerGate",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"only": name}},
            "database": {"secretRef": {"name": secret}},
            "ledger": {"dialect": dialect},
        },
    }


def secret(name: str, url: str) -> dict[str, Any]:
    """Return a Secret with a database's address."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"url": url}}
