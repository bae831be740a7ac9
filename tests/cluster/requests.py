"""What the API server says that it was asked."""

import re

from testbed.controlplane import ControlPlane


def pod_patches(plane: ControlPlane, **labels: str) -> int:
    """How many PATCH requests of pods, not of their status, the API server has had since it was started.

    Args:
        labels: further labels of `apiserver_request_total` that must be so, such as `code`.
    """
    wanted = {"resource": "pods", "subresource": "", "verb": "PATCH", **labels}
    terms = [f'{name}="{value}"' for name, value in wanted.items()]
    text = plane.kubectl("get", "--raw", "/metrics")
    found = re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE)
    return round(sum(float(value) for series, value in found if all(term in series for term in terms)))
