"""Objects with a pod template, such as Deployments."""

from webhook.api.objects import Metadata, Pod, Struct

DEFAULT_PROGRESS_DEADLINE = 600
"""Seconds (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#progress-deadline-seconds)."""


class _JobTemplateSpec(Struct, frozen=True):
    template: Pod | None = None


class _JobTemplate(Struct, frozen=True):
    spec: _JobTemplateSpec = _JobTemplateSpec()


class _RollingUpdate(Struct, frozen=True):
    max_surge: int | str | None = None
    max_unavailable: int | str | None = None


class _Strategy(Struct, frozen=True):
    type: str = ""
    rolling_update: _RollingUpdate | None = None


class _Spec(Struct, frozen=True):
    template: Pod | None = None
    replicas: int | None = None
    progress_deadline_seconds: int | None = None  # of a Deployment
    job_template: _JobTemplate = _JobTemplate()
    strategy: _Strategy = _Strategy()  # of a Deployment
    update_strategy: _Strategy = _Strategy()  # of a StatefulSet and of a DaemonSet


class Workload(Struct, frozen=True):
    """A Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob."""

    kind: str = ""
    metadata: Metadata = Metadata()
    spec: _Spec = _Spec()

    @property
    def title(self) -> str:
        """The name that kubectl prints: ``deployment/gateway``; the prefix of a name that is not generated yet."""
        return f"{self.kind.lower()}/{self.metadata.name or self.metadata.generate_name}"

    @property
    def pod(self) -> Pod | None:
        """The pod template; None where there is none."""
        return self.spec.template or self.spec.job_template.spec.template

    @property
    def progress_deadline(self) -> int | None:
        """Seconds after which a Deployment without progress counts as failed; None for other kinds."""
        if self.kind != "Deployment":
            return None
        deadline = self.spec.progress_deadline_seconds
        return DEFAULT_PROGRESS_DEADLINE if deadline is None else deadline

    @property
    def _starts_with_removal(self) -> bool:
        rolling = self.spec.strategy.rolling_update
        if rolling is None:
            return False
        gone, replicas = rolling.max_unavailable, 1 if self.spec.replicas is None else self.spec.replicas
        everything = gone == "100%" or (isinstance(gone, int) and 0 < replicas <= gone)
        return rolling.max_surge in {0, "0", "0%"} or everything

    @property
    def removes_first(self) -> bool:
        """Whether a rollout removes running pods before their successors run.

        True for a Deployment with strategy Recreate, or without surge, or of which all pods may be unavailable; for a
        StatefulSet, and a DaemonSet without surge
        (https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/#daemonset-update-strategy). False with
        OnDelete, where the rollout itself removes none.
        """
        update = self.spec.update_strategy
        if self.kind == "Deployment":
            return self.spec.strategy.type == "Recreate" or self._starts_with_removal
        if self.kind == "StatefulSet":
            return update.type != "OnDelete"
        if self.kind == "DaemonSet":
            surge = update.rolling_update.max_surge if update.rolling_update else None
            return update.type != "OnDelete" and surge in {None, 0, "0", "0%"}
        return False
