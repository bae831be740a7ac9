"""Kubernetes objects as they are decoded and kept."""

import gc
import weakref

import msgspec

from webhook.api.objects import EnvVar, KeptPod, Pod

ENVIRONMENT = [{"name": "EXPECTED", "value": "b"}, {"name": "REFERRED", "valueFrom": {}}]


def pod_json(size: int = 0) -> bytes:
    """Return a pod as the API server sends it, with this many bytes that nothing reads."""
    spec = {"containers": [{"name": "main", "env": ENVIRONMENT}], "initContainers": [{"name": "first"}]}
    return msgspec.json.encode({"metadata": {"name": "p"}, "spec": spec, "unread": "x" * size})


def test_an_environment_is_read_from_every_form_of_pod() -> None:
    """Decoded in admission or kept by the controller, a pod has the same variables."""
    for kind in (Pod, KeptPod):
        pod = msgspec.json.decode(pod_json(), type=kind)
        assert pod.spec.containers is not None
        assert pod.spec.init_containers is not None
        assert list(pod.spec.containers[0].env) == [EnvVar(name="EXPECTED", value="b"), EnvVar(name="REFERRED")]
        assert list(pod.spec.init_containers[0].env) == []


def test_a_kept_pod_keeps_nothing_of_the_answer_that_it_came_in() -> None:
    """The answer, which has hundreds of other pods, is freed; equal environments are one object."""

    class Answer(bytearray):
        """Bytes whose end can be seen."""

    answer = Answer(pod_json(1000))
    freed = weakref.ref(answer)
    kept = [msgspec.json.decode(answer, type=KeptPod) for _ in range(2)]
    del answer
    gc.collect()
    assert freed() is None
    assert len({id(pod.spec.containers[0].environment) for pod in kept if pod.spec.containers}) == 1
