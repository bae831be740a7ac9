"""The soak: the walk's steps and faults of every process, while pods are created and deleted at a rate all the time."""

import random
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from testbed.controlplane import ControlPlaneError
from testbed.controlplane.etcd import compact
from testbed.waiting import until
from tests.chaos.guard_model import FRAGILE, Claim
from tests.chaos.guard_walk import GROUPS, RECONNECTED, REVISIONS, Walk, WalkPod, pod

ALIVE = 120
"""Pods that exist at a time; beyond that, each creation is followed by a deletion."""
THREADS = 3
API_SERVER = "API server"
CONNECTED = 12.0
"""Seconds from the start of an API server until every process follows it again: the longest pause between two attempts
to watch, and a new leader."""
READ_ALONE = 10.0
"""Seconds that a database may wait if it was being read when a worker was killed: it is next read alone, after others,
and a hostile one of those takes seconds."""
OFFSETS = ("+1m", "-1m", "+50m", "-50m", "+3h", "-3h")
"""By how much a clock is moved."""
REFUSED = ("failed calling webhook",)


@dataclass
class Soak(Walk):
    """A walk that shares its namespace with a creator of pods.

    Attributes:
        clocks: The file of each process's clock; empty where there is no libfaketime.
        doubtful: Pods whose creation was cut off: they may exist, and then must not run too early.
        created: Names of the pods that were created.
    """

    clocks: Mapping[str, Path] = field(default_factory=dict)
    doubtful: dict[str, WalkPod] = field(default_factory=dict)
    creations: deque[float] = field(default_factory=lambda: deque([0.02], maxlen=100))
    refusals: deque[tuple[WalkPod, str, float]] = field(default_factory=deque)
    created: list[str] = field(default_factory=list)
    frozen: bool = False
    moved: dict[str, str] = field(default_factory=dict)

    @property
    def slowest(self) -> float:
        """Seconds of the slowest of the latest requests, and of the latest creations."""
        return max(*self.requests, *tuple(self.creations))

    # Pods.

    @contextmanager
    def creating(self, rate: float) -> Iterator[None]:
        """Create pods in the background, so many a second."""
        stop, began = threading.Event(), time.monotonic()
        failures: list[Exception] = []
        # Threads run in any order, so each has a separate source of random numbers.
        chances = [random.Random(self.chance.random()) for _ in range(THREADS)]  # noqa: S311 - seeds, no secrets

        def work(share: int) -> None:
            number, late = share, 0.0
            try:
                while not stop.is_set():
                    self._create_one(f"soak-{number}", chances[share])
                    number += THREADS
                    if len(self.pods) > ALIVE:
                        self._delete_one(chances[share])
                    # Creations that an outage has prevented are not made up for.
                    ahead = began + late + number / rate - time.monotonic()
                    late += max(0.0, -ahead - 1.0)
                    stop.wait(max(0.0, ahead))
            except Exception as error:  # noqa: BLE001 - raised by the test's thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(share,)) for share in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures, failures

    def _create_one(self, name: str, chance: random.Random) -> None:
        made = WalkPod(name, chance.choice(GROUPS), chance.randint(1, len(REVISIONS)), time.time())
        self.pods[name] = made
        began = time.monotonic()
        path = f"/api/v1/namespaces/{self.application.namespace}/pods"
        try:
            self.application.plane.api.create(path, pod(name, made.group, made.expects))
        except ControlPlaneError as error:
            self.pods.pop(name, None)  # another thread may have deleted it already
            text = str(error)
            if "denied the request" in text or any(each in text for each in REFUSED):
                self.refusals.append((made, text, time.time()))
            else:
                self.doubtful[name] = made
        else:
            self.created.append(name)
            self.creations.append(time.monotonic() - began)

    def _delete_one(self, chance: random.Random) -> None:
        name = chance.choice(tuple(self.pods))
        self.pods.pop(name, None)
        try:
            self.application.plane.api.delete(f"/api/v1/namespaces/{self.application.namespace}/pods/{name}")
        except ControlPlaneError:
            return  # as the API server is down; the pod is no longer looked at

    def known(self, name: str) -> WalkPod | None:
        """Return the pod of this name, if it is checked: also one whose creation was cut off."""
        return self.pods.get(name) or self.doubtful.get(name)

    def check(self) -> None:
        """Check what the walk checks, and the refusals."""
        super().check()
        while self.refusals:
            self.check_refusal(*self.refusals.popleft())

    # Faults.

    def break_something(self) -> str:
        """Kill the webhook or the controller, stop a database, or cut the network to it."""
        if not self.world.down and self.chance.random() < 0.3:
            began = time.time()
            self._signal_database(signal.SIGSTOP)
            self.frozen = True
            self.turn(replace(self.world, down=frozenset({FRAGILE})), began)
            return f"{FRAGILE} is cut off"
        return super().break_something()

    def mend(self) -> str:
        """Start what is down."""
        if not self.frozen:
            return super().mend()
        began = time.time()
        self._signal_database(signal.SIGCONT)
        self.frozen = False
        self.recovered = time.time() + RECONNECTED
        self.chronicle.turn(replace(self.world, down=frozenset()), began, self.recovered)
        return f"{FRAGILE} is no longer cut off"

    def restart_apiserver(self) -> str:
        """Kill the API server and start it again; nothing else changes until every process follows it again."""
        self.mend()
        self.settle()
        plane = self.application.plane
        began, sights = time.time(), len(self.watch.sights)
        self.turn(replace(self.world, down=frozenset({API_SERVER})), began)
        plane.kill_apiserver()
        time.sleep(self.chance.uniform(0.0, 3.0))  # the outage
        plane.start_apiserver()
        until("the watch of pods", lambda: len(self.watch.sights) > sights)
        self.recovered = time.time() + CONNECTED
        self.chronicle.turn(replace(self.world, down=frozenset()), began, self.recovered)
        self.settle()
        return "the API server was restarted"

    def kill_worker(self) -> str:
        """Kill one of the processes that read databases."""
        if "controller" in self.world.down:
            return ""
        workers = psutil.Process(self.installation.pid("controller")).children()
        if not workers:
            return ""
        before = self.installation.log("controller").count("reader.ended")
        self.chance.choice(workers).kill()
        until("the controller to notice", lambda: self.installation.log("controller").count("reader.ended") > before)
        self.recovered = max(self.recovered, time.time() + READ_ALONE)
        ends = [line for line in self.installation.log("controller").splitlines() if "reader.ended" in line]
        if "worker=suspects" not in ends[-1] or "visits=0" in ends[-1]:
            return "a worker was killed"
        self.mend()
        # The controller cannot know that its database did not end this worker, and so reads that database seldom for a
        # quarter of an hour. A new controller starts without this record.
        began = time.time()
        self.installation.kill("controller")
        self.turn(replace(self.world, down=frozenset({"controller"})), began)
        return f"a worker was killed that read one database; {self.mend()}"

    def compact(self) -> str:
        """Compact etcd up to its newest revision."""
        compact(self.application.plane)
        return "etcd was compacted"

    def move_clock(self) -> str:
        """Move the wall clock of the webhook or the controller, its workers' too, or set one right again."""
        if not self.clocks:
            return ""
        if self.moved:
            name, _ = self.moved.popitem()
            self.clocks[name].write_text("+0")
            return f"the clock of the {name} is right again"
        name, offset = self.chance.choice(tuple(self.clocks)), self.chance.choice(OFFSETS)
        self.moved[name] = offset
        self.clocks[name].write_text(offset)
        return f"the clock of the {name} is at {offset}"

    def settle(self) -> None:
        """Wait until what was asked for is known everywhere."""
        end = max(time.time() + self.lag, self.recovered)
        while time.time() < end:
            time.sleep(0.05)  # between two checks
            self.check()

    # The end.

    def mend_all(self) -> None:
        """Mend everything, and wait until a controller leads."""
        while self.moved:
            self.move_clock()
        self.mend()
        until(
            "a leader",
            lambda: "ledgergate_leader 1.0" in self.installation.metrics("controller"),
        )

    def late(self) -> list[str]:
        """Check, and return the pods that are held though their verdict is good."""
        self.check()
        return [
            str(each)
            for each in tuple(self.pods.values())
            if not each.free and self.world.claim(each.group, each.expects) is Claim.RUN
        ]

    def _signal_database(self, number: signal.Signals) -> None:
        """Signal a server and its children: while they are stopped, it is as if the network were cut."""
        assert self.fragile._process is not None
        server = psutil.Process(self.fragile._process.pid)
        for each in (server, *server.children(recursive=True)):
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:  # it ended on its own
                continue
