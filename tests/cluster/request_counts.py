"""Counts of requests, from the API server's metrics."""

import re

from testbed.controlplane import ControlPlane


def pod_patches(plane: ControlPlane, **labels: str) -> int:
    """Return how many PATCH requests of pods, without those of their status, the API server has had since its start.

    Args:
        labels: further labels that `apiserver_request_total` must have, such as `code`.
    """
    wanted = {"resource": "pods", "subresource": "", "verb": "PATCH", **labels}
    terms = [f'{name}="{value}"' for name, value in wanted.items()]
    text = plane.kubectl("get", "--raw", "/metrics")
    found = re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE)
    return round(sum(float(value) for series, value in found if all(term in series for term in terms)))
