"""A webhook in kopf that looks at the same annotation; kopf runs it, in an environment of its own.

kopf run webhook_in_kopf.py, with PORT, CERTIFICATE, KEY and KUBECONFIG in the environment.
"""

import os
from typing import Any

import kopf  # type: ignore[import-not-found]


@kopf.on.startup()  # type: ignore[untyped-decorator, unused-ignore]
def configure(settings: Any, **_: Any) -> None:
    """Serve webhooks, and leave the cluster's configuration alone."""
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1",
        port=int(os.environ["PORT"]),
        certfile=os.environ["CERTIFICATE"],
        pkeyfile=os.environ["KEY"],
    )
    settings.admission.managed = None


@kopf.on.validate("pods", id="validate")  # type: ignore[untyped-decorator, unused-ignore]
def validate(annotations: Any, warnings: list[str], **_: Any) -> None:
    """Warn of a pod that declares nothing."""
    if not annotations.get("ledgergate.dev/revision"):
        warnings.append("the pod declares no revision")
