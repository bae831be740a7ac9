"""Pods are made ready when ledgergate is taken out of service, although its controller may still write."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from msgspec.structs import replace

from webhook.api.objects import Condition, Metadata, Pod, PodSpec, PodStatus, ReadinessGate
from webhook.cli.uninstall import MAX_ROUNDS, make_ready
from webhook.kube.errors import ClusterError, Forbidden, Unavailable

if TYPE_CHECKING:
    from webhook.kube.client import KubeClient

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
KIND = "ledgergate.dev/app"


class Pods:
    """Pods with a readiness gate and no condition; what is written to one may be overwritten, or refused.

    Attributes:
        overwritten: How many writes to a pod are followed by a late one of the controller, which sets False.
        refused: The errors of the next writes to a pod.
    """

    def __init__(self, *names: str) -> None:
        spec = PodSpec(readiness_gates=[ReadinessGate(KIND)])
        self.pods = {name: Pod(metadata=Metadata(namespace="ns", name=name, uid=name), spec=spec) for name in names}
        self.overwritten: dict[str, int] = {}
        self.refused: dict[str, list[ClusterError]] = {}

    def gated_pods(self) -> Self:
        """Return the pods' collection."""
        return self

    async def list_objects(self) -> tuple[list[Any], str]:
        """List the pods."""
        return list(self.pods.values()), "1"

    async def patch_pod_conditions(self, pod: Metadata, conditions: Sequence[Mapping[str, str]]) -> None:
        """Set a pod's conditions."""
        if self.refused.get(pod.name):
            raise self.refused[pod.name].pop(0)
        (condition,) = conditions
        status = condition["status"]
        if self.overwritten.get(pod.name):
            self.overwritten[pod.name] -= 1
            status = "False"
        conditions_now = PodStatus(conditions=[Condition(type=condition["type"], status=status)])
        self.pods[pod.name] = replace(self.pods[pod.name], status=conditions_now)

    def ready(self) -> list[str]:
        """Return the names of the pods whose condition is True."""
        conditions = {name: pod.status.conditions or [] for name, pod in self.pods.items()}
        return [name for name, found in conditions.items() if any(each.status == "True" for each in found)]


async def made_ready(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], ClusterError]:
    monkeypatch.setattr("webhook.cli.uninstall.PAUSE", 0.0)
    return await make_ready(cast("KubeClient", pods), NOW)


async def test_a_late_write_of_the_controller_does_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller's False, decided a moment before and written after True, is written over again."""
    pods = Pods("calm", "late")
    pods.overwritten["late"] = 2
    assert await made_ready(pods, monkeypatch) == {}
    assert pods.ready() == ["calm", "late"]


async def test_what_is_forbidden_is_reported_and_what_did_not_answer_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing right ends with its error, once; an answer that did not come is asked for again."""
    pods = Pods("forbidden", "slow")
    pods.refused = {"forbidden": [Forbidden("403: no")] * 2, "slow": [Unavailable("no answer")]}
    failed = await made_ready(pods, monkeypatch)
    assert list(failed) == [("ns", "forbidden")]
    assert len(pods.refused["forbidden"]) == 1
    assert pods.ready() == ["slow"]


async def test_a_pod_that_stays_unready_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the controller sets False each time, the command ends with what is in the way, not with success."""
    pods = Pods("calm", "contested")
    pods.overwritten["contested"] = MAX_ROUNDS
    failed = await made_ready(pods, monkeypatch)
    assert list(failed) == [("ns", "contested")]
    assert "its controller still runs" in str(failed["ns", "contested"])
