"""The test control plane: real Kubernetes programs, found or built, started and stopped.

`python -m tests.cluster.controlplane --help` explains what a developer can do with it.
"""

from tests.cluster.controlplane.pins import ALL
from tests.cluster.controlplane.plane import ControlPlane
from tests.cluster.controlplane.processes import ControlPlaneError
from tests.cluster.controlplane.provision import Unavailable, provision, provision_helm

__all__ = ["ALL", "ControlPlane", "ControlPlaneError", "Unavailable", "provision", "provision_helm"]
