"""CustomResourceDefinitions of cert-manager and the Prometheus operator, which the manifests can use.

They are files in those projects' Go modules, fetched from the module proxy and checked against the checksums here.
"""

import json
import os
import subprocess
from pathlib import Path

from testbed.controlplane.cache import cache_directory
from testbed.controlplane.toolchain import ToolchainError, find_go

GO = "1.24"
SOURCES = {
    "github.com/cert-manager/cert-manager@v1.21.2": (
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        ("deploy/crds/cert-manager.io_certificates.yaml", "deploy/crds/cert-manager.io_issuers.yaml"),
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        (
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ),
    ),
}


class MissingError(Exception):
    """The definitions cannot be fetched; the message has the reason."""


def definitions() -> list[Path]:
    """Return the files of the definitions.

    Raises:
        MissingError: There is no Go or no module proxy, or a checksum differs.
    """
    try:
        go = find_go(GO, cache_directory(os.environ), progress=lambda _: None)
    except ToolchainError as error:
        raise MissingError(str(error)) from error
    found = []
    for module, (checksum, files) in SOURCES.items():
        # Run in /, so that no go.mod has an effect.
        done = subprocess.run(
            [go, "mod", "download", "-json", module], cwd="/", check=False, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise MissingError(f"go mod download {module}: {done.stdout.strip() or done.stderr.strip()}")
        module_info = json.loads(done.stdout)
        if module_info["Sum"] != checksum:
            raise MissingError(f"{module}: expected the checksum {checksum}, there is {module_info['Sum']}")
        found += [Path(module_info["Dir"]) / file for file in files]
    return found
