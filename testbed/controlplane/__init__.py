"""The test control plane: real Kubernetes programs, found or built, started and stopped.

`python -m testbed.controlplane --help` explains what a developer can do with it.
"""

from testbed.controlplane.pins import ALL
from testbed.controlplane.plane import ControlPlane
from testbed.controlplane.processes import ControlPlaneError
from testbed.controlplane.provision import Unavailable, provision, provision_helm

__all__ = ["ALL", "ControlPlane", "ControlPlaneError", "Unavailable", "provision", "provision_helm"]
