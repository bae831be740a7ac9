"""Read what the images of held pods need, once for all pods of an image, and remember it.

A pod is judged without waiting: an image that is not known yet holds it, and the end of the reading judges it anew.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from webhook.api.namespace import OptIn
from webhook.api.objects import Pod
from webhook.background import start
from webhook.controller.pull_credentials import PullCredentials
from webhook.core.gate import Gate
from webhook.core.images import (
    IMAGES,
    REFERENCES,
    ImageRecord,
    UnknownImage,
    format_images,
    has_tag,
    image_key,
)
from webhook.kube.reflector import Key
from webhook.registries.credentials import Keyring
from webhook.registries.memory import ImageMemory
from webhook.registries.result import ImageLabels, Unresolved, UnresolvedReason
from webhook.telemetry import Telemetry, isolated, log_event

PARALLEL_READINGS, PARALLEL_READINGS_PER_NAMESPACE = 32, 8
"""Images that are read at a time: one namespace's slow registry must not keep the others waiting."""

WAITING_PER_NAMESPACE = 200
"""Images of one namespace that may wait for their turn; further ones are asked for when some are known."""

RETRY_SECONDS = 5.0
"""Until an image that could not be read is tried again, as long as pods wait for it."""

LOOKUP_SECONDS = 3.0
"""How long a pod waits for a new lookup of its tag; after that, the image that the tag led to before counts."""

FORGET_SECONDS = 30.0
"""Until a failure is forgotten if no pod asks for its image any more: longer than a reading and its next try."""

_CONTRADICTORY = frozenset({UnresolvedReason.LABELS_DISAGREE, UnresolvedReason.INVALID_LABEL})
_REPLACED = _CONTRADICTORY | {
    UnresolvedReason.TOO_LARGE,
    UnresolvedReason.WRONG_DIGEST,
    UnresolvedReason.UNSUPPORTED,
    UnresolvedReason.NO_PLATFORM,
}
"""The registry has answered, but the image cannot be judged: what the tag led to before no longer counts."""


class CredentialsSource(Protocol):
    """Where the logins for a pod's images come from."""

    async def read(self, namespace: str, names: Sequence[str]) -> PullCredentials:
        """Return the logins of the pull secrets with these names, and those for every namespace."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """One image of one namespace, asked for with the same pull secrets."""

    namespace: str
    reference: str
    secrets: tuple[str, ...]


@dataclass(slots=True)
class _Failure:
    """The last failure to read an image.

    Args:
        at: seconds of the monotonic clock.
        gates: those whose pods wait for it.
        replaced: what the tag led to before no longer counts, see `_REPLACED`.
    """

    unknown: UnknownImage
    at: float
    gates: set[Key]
    replaced: bool = False


class GateImages:
    """Knows what the images of each gate's pods say, and reads the images that it does not know.

    Args:
        memory: reads images, each once.
        credentials: where logins come from.
        admission: what a namespace's label says; the images of a namespace that is off are not read.
        on_read: called with a namespace and an image, as it stands in pods, when its reading has ended, well or not.
        on_change: called with a gate when more is known of its images, or when they are to be tried again.
        now: the clock, aware.
        monotonic: seconds of the monotonic clock.
    """

    def __init__(
        self,
        memory: ImageMemory,
        credentials: CredentialsSource,
        telemetry: Telemetry,
        *,
        admission: Callable[[str], OptIn],
        on_read: Callable[[str, str], None],
        on_change: Callable[[Key], None],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._memory = memory
        self._credentials = credentials
        self._telemetry = telemetry
        telemetry.image_readings.labels("Read")  # exists from 0 on, so that the first reading is an increase
        self._admission = admission
        self._on_read = on_read
        self._on_change = on_change
        self._now = now
        self._monotonic = monotonic
        self._known: dict[Key, OrderedDict[str, ImageRecord]] = {}
        self._names: dict[Key, dict[str, str]] = {}
        """By gate, the digest that each name with a tag leads to."""
        self._readings: dict[_Ask, tuple[float, set[Key]]] = {}
        self._failures: dict[_Ask, _Failure] = {}
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(PARALLEL_READINGS_PER_NAMESPACE)
        )
        self._all_turns = asyncio.Semaphore(PARALLEL_READINGS)
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Read images until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await asyncio.get_running_loop().create_future()  # the group's tasks do the work
        finally:
            self._group = None
            await self._memory.close()

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return what an image of a pod says; start a reading if that is unknown, or its tag was not looked up lately.

        Args:
            reference: the image, as it stands in the pod.
        """
        known = self._record(gate, reference)
        if known is not None and (not has_tag(reference) or known.fresh(self._now())):
            return known
        secrets = tuple(each.name for each in pod.spec.image_pull_secrets or ())
        ask = _Ask(pod.metadata.namespace or gate.namespace, reference, secrets)
        failure = self._failures.get(ask)
        if failure is None or self._monotonic() - failure.at >= RETRY_SECONDS:
            started = self._start(ask, gate)
            if failure is None:
                # An unknown image holds the pod until it is read; a tag that is looked up again, for a moment only.
                late = started is None or self._monotonic() - started > LOOKUP_SECONDS
                return known if known is not None and late else UnknownImage(reference)
        failure.gates.add(gate.key)
        return failure.unknown if known is None or failure.replaced else known

    def status(self, gate: Gate) -> dict[str, Any]:
        """Return the part of a gate's status that is about images."""
        if gate.expect_image is None:
            return {"images": None} if gate.images else {}
        return {"images": format_images(self._of(gate).values())}

    def unresolved(self, gate: Key) -> int:
        """Return how many images, that pods of a gate wait for, could not be read lately."""
        oldest = self._monotonic() - FORGET_SECONDS
        failed = self._failures.items()
        return len({ask.reference for ask, failure in failed if gate in failure.gates and failure.at > oldest})

    def forget(self, gate: Key) -> None:
        """Forget the images of a gate that was deleted."""
        self._known.pop(gate, None)
        self._names.pop(gate, None)

    def _of(self, gate: Gate) -> OrderedDict[str, ImageRecord]:
        """Return a gate's images by digest; at first those that its status remembers."""
        if gate.key not in self._known:
            records = dict.fromkeys(gate.images.values())
            self._known[gate.key] = OrderedDict((each.digest, each) for each in records)
            self._names[gate.key] = {name: each.digest for each in records for name in each.references}
        return self._known[gate.key]

    def _record(self, gate: Gate, reference: str) -> ImageRecord | None:
        known = self._of(gate)
        key = image_key(reference)
        return known.get(self._names[gate.key].get(key, key))

    def _start(self, ask: _Ask, gate: Gate) -> float | None:
        """Start to read an image, unless that is under way; return when it was started, None where it is not."""
        reading = self._readings.get(ask)
        if reading is not None:
            reading[1].add(gate.key)
            return reading[0]
        waiting = sum(1 for each in self._readings if each.namespace == ask.namespace)
        if self._group is None or waiting >= WAITING_PER_NAMESPACE or self._admission(ask.namespace) is OptIn.OFF:
            return None
        started = self._monotonic()
        self._readings[ask] = started, {gate.key}
        start(self._group, self._read(ask, tuple(self._of(gate).values())))
        # A moment later, so that `find` certainly sees that the time is over.
        asyncio.get_running_loop().call_later(LOOKUP_SECONDS + 0.05, self._lookup_late, ask, started)
        return started

    def _lookup_late(self, ask: _Ask, started: float) -> None:
        reading = self._readings.get(ask)
        if reading is not None and reading[0] == started:
            self._notify(reading[1])

    async def _read(self, ask: _Ask, known: Sequence[ImageRecord]) -> None:
        found: ImageLabels | Unresolved | None = None
        problem = ""
        with isolated("image.failed", namespace=ask.namespace, image=ask.reference[:200]):
            async with self._turns[ask.namespace], self._all_turns:
                credentials = await self._credentials.read(ask.namespace, ask.secrets)
                problem = credentials.problem
                scope = _scope(ask.namespace, credentials.keyring)
                # The status remembers what an earlier process has read; a tag then costs only a request for its digest.
                self._memory.learn(scope, map(_labels, known))
                found = await self._memory.find(scope, ask.reference, credentials.keyring)
        _, gates = self._readings.pop(ask)
        if isinstance(found, ImageLabels):
            self._failures.pop(ask, None)
            for key in gates:
                self._keep(key, ask.reference, found)
            self._telemetry.image_readings.labels("Read").inc()
            log_event("image.read", namespace=ask.namespace, image=found.reference, revision=found.revision)
        else:
            self._fail(ask, found, problem, gates)
        with isolated("image.failed", namespace=ask.namespace, image=ask.reference[:200]):
            self._on_read(ask.namespace, ask.reference)
        self._notify(gates)

    def _fail(self, ask: _Ask, found: Unresolved | None, problem: str, gates: set[Key]) -> None:
        message = "; ".join(filter(None, (problem, str(found) if found else "ledgergate failed; its log says why")))
        contradictory = found is not None and found.reason in _CONTRADICTORY
        reason = found.reason if found else UnresolvedReason.MALFORMED
        replaced = reason in _REPLACED
        oldest = self._monotonic() - FORGET_SECONDS
        self._failures = {each: failed for each, failed in self._failures.items() if failed.at > oldest}
        self._failures[ask] = _Failure(
            UnknownImage(ask.reference, message, contradictory), self._monotonic(), gates, replaced
        )
        self._telemetry.image_readings.labels(reason).inc()
        log_event(
            "image.unresolved", level=logging.WARNING, namespace=ask.namespace, image=ask.reference[:200], why=message
        )
        # The first call has the pods judged, which starts the next try; the second corrects the metric if none did.
        for pause in (RETRY_SECONDS, FORGET_SECONDS):
            asyncio.get_running_loop().call_later(pause + 0.05, self._notify, gates)

    def _keep(self, gate: Key, reference: str, found: ImageLabels) -> None:
        """Remember what an image says, and which name leads to it, which may have led to another before."""
        known, names = self._known.get(gate), self._names.get(gate)
        if known is None or names is None:
            return
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        if has_tag(reference):
            former = known.get(names.get(reference, ""))
            if former is not None and former.digest != found.digest:
                left = tuple(name for name in former.references if name != reference)
                known[former.digest] = replace(former, references=left)
            names[reference] = found.digest
        before = known.get(found.digest)
        tags = [name for name in (before.references if before else ()) if name != reference]
        tags += [reference] if has_tag(reference) else []
        for dropped in tags[:-REFERENCES]:  # the oldest names: the newest is last
            names.pop(dropped, None)
        known[found.digest] = ImageRecord(
            found.reference,
            found.revision,
            found.contract,
            found.ancestors,
            tuple(tags[-REFERENCES:]),
            before.resolved_at if before else stamp,
            stamp,
        )
        known.move_to_end(found.digest)
        while len(known) > IMAGES:
            _, oldest = known.popitem(last=False)
            for name in oldest.references:
                names.pop(name, None)

    def _notify(self, gates: Iterable[Key]) -> None:
        for gate in tuple(gates):
            with isolated("gate.failed", gate="/".join(gate)):
                self._on_change(gate)


def _scope(namespace: str, keyring: Keyring) -> str:
    """Return whose image it is: a namespace's, with its logins.

    Other logins may show another image; what was read with wrong logins must not count after they were corrected.
    """
    logins = repr([(pattern, login.username, login.password) for pattern, login in keyring.entries])
    return f"{namespace} {hashlib.sha256(logins.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _labels(record: ImageRecord) -> ImageLabels:
    return ImageLabels(record.image, record.digest, record.revision, record.contract, record.ancestors)
