"""The walk: steps that change both the cluster and the model of it, and what must hold after each of them."""

import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from migrations.reader.visitor import LONGEST_GAP
from migrations.reader.watcher import PollIntervals
from testbed.cluster.application import REVISION, Application, in_an_hour, migrate, write_migrations
from testbed.cluster.installation import Installation
from testbed.cluster.pod_watch import PodWatch
from testbed.controlplane import ControlPlaneError
from testbed.evil.server import evil_servers
from testbed.postgres import Postgres
from tests.chaos.guard_model import BEHAVIOURS, EVIL, FRAGILE, GONE, STABLE, Chronicle, Claim, ModelGate, World
from webhook.ledgers.reader_pool import RESTART_SECONDS
from webhook.ledgers.schedule import FOLLOW_SECONDS, URGENT_RETRY

REVISIONS = tuple(f"2026010{number}000000_step_{number}" for number in range(1, 7))
GROUPS = ("red", "red", "red", "blue", "blue", "blue", "none")
GATES = ("first", "second")
SECRETS = ("pg", "other")
TARGETS = (STABLE,) * 4 + (FRAGILE,) * 4 + (EVIL,) * 2 + (GONE,) * 2
"""Where a Secret is pointed to."""

LONGEST_REST = 3.0
"""Seconds; on a machine so busy that more is needed, the walk proves less, but ends."""

PAUSES = URGENT_RETRY + FOLLOW_SECONDS + RESTART_SECONDS + PollIntervals().urgent + LONGEST_GAP
"""Seconds that the product may let pass by itself before a pod whose verdict has turned good runs: between two attempts
at a database for which pods wait, two visits, two starts of a worker, two reads, and two of them after a NOTIFY."""

ROUND_TRIPS = 7
"""Allowed beyond `PAUSES`, and alone for a pod that may run no more; each may take as long as the slowest of the walk's
latest requests. A change reaches a pod by as many: a watch, the read of a Secret, the way to a reader process, a
session with the database, the way back, the patch, the watch that shows it; all of them queue on the same two cores."""

GRACE = 10.0
"""Seconds that a pod which no gate selects waits for one."""
NEW_LEADER = 8.0
"""Seconds from the start of a controller until it leads: the rest of the dead one's Lease, and its start."""
RECONNECTED = 7.0
"""Seconds from the start of a database until it is read: the longest pause between two attempts to connect, and one."""
MOST_PODS = 24
WITHOUT_GATE = "came without scheduling gate"
"""Part of the refusal of a pod that would be held, but lacks the scheduling gate."""


def pod(name: str, group: str, expects: int) -> dict[str, Any]:
    """Return a pod that expects the first `expects` revisions."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"group": group},
            "annotations": {REVISION: REVISIONS[expects - 1]},
        },
        "spec": {"containers": [{"name": "main", "image": "app"}], "terminationGracePeriodSeconds": 0},
    }


@dataclass(slots=True)
class WalkPod:
    """A pod of the walk.

    Attributes:
        created: When it was asked for.
        free: Whether it was seen without the gate.
    """

    name: str
    group: str
    expects: int
    created: float
    free: bool = False


@dataclass
class Walk:
    """The walk: each step changes both the cluster and the model."""

    application: Application
    installation: Installation
    fragile: Postgres
    urls: dict[str, str]
    migrations: Path
    chance: random.Random
    chronicle: Chronicle
    watch: PodWatch
    pods: dict[str, WalkPod] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)
    recovered: float = 0.0
    seen: int = 0
    requests: deque[float] = field(default_factory=lambda: deque([0.05], maxlen=20))
    commands: deque[float] = field(default_factory=lambda: deque([0.5], maxlen=5))
    released: int = 0

    @property
    def lag(self) -> float:
        """Seconds after which a change must be known to all processes, at the machine's present speed."""
        return ROUND_TRIPS * self.slowest

    @property
    def slowest(self) -> float:
        """Seconds of the slowest of the latest requests."""
        return max(self.requests)

    @property
    def limit(self) -> float:
        """Seconds after which a pod must have been released, at the machine's present speed.

        A worker may have to be started for it, which takes less than the commands that the walk starts.
        """
        return PAUSES + self.lag + max(self.commands)

    # Steps. Each returns what it did; an empty text where it cannot be done now.

    def create_pod(self) -> str:
        """Create a pod of any kind."""
        if len(self.pods) >= MOST_PODS:
            return self.delete_pod()
        return self.create(self.chance.choice(GROUPS), self.chance.randint(1, len(REVISIONS)))

    def create(self, group: str, expects: int) -> str:
        """Create a pod without an owner: the back-off of an owner would delay it."""
        name = f"pod-{len(self.trail)}"
        body = pod(name, group, expects)
        began = time.time()
        self.pods[name] = WalkPod(name, group, expects, began)
        refusal = ""
        try:
            self.kubectl("create", "-f", "-", stdin=yaml.safe_dump(body))
        except ControlPlaneError as error:
            refusal = str(error)
        if not refusal:
            return f"{name} ({group}) expects {expects}"
        self.check_refusal(self.pods.pop(name), refusal, time.time())
        return f"{name} ({group}, expects {expects}) was refused"

    def delete_pod(self) -> str:
        """Delete a pod, held or not."""
        if not self.pods:
            return ""
        name = self.chance.choice(list(self.pods))
        self.kubectl("delete", "pod", name, "--wait=false")
        del self.pods[name]
        return f"delete {name}"

    def migrate(self) -> str:
        """Migrate a ledger to a random level, up or down."""
        world = self.world
        database = self.chance.choice([each for each in (STABLE, FRAGILE) if each not in world.down])
        now, then = world.levels[database], self.chance.randint(0, len(REVISIONS))
        if now == then:
            return ""
        began = time.time()
        if then > now:
            migrate(self.migrations, self.urls[database], "--to", REVISIONS[then - 1], "--allow-out-of-order")
        else:
            migrate(self.migrations, self.urls[database], "--steps", str(now - then), command="down")
        self.commands.append(time.time() - began)
        self.turn(replace(world, levels={**world.levels, database: then}), began)
        return f"{database} is at {then}"

    def edit_gate(self) -> str:
        """Create a gate, or edit one: its selector, its Secret or its policy."""
        name = self.chance.choice(GATES)
        gate = self.world.gates.get(name, ModelGate("red", "pg"))
        edits: tuple[Callable[[], ModelGate], ...] = (
            lambda: replace(gate, group=self.chance.choice(GROUPS[:-1])),
            lambda: replace(gate, secret=self.chance.choice(SECRETS)),
            lambda: replace(gate, mode=self.chance.choice(("Enforce",) * 4 + ("Audit",))),
            lambda: replace(gate, on_behind=self.chance.choice(("Hold", "Hold", "Hold", "Deny", "Deny", "Warn"))),
            lambda: replace(gate, bypassed=self.chance.random() < 0.2),
        )
        gate = self.chance.choice(edits)()
        began = time.time()
        until = {"until": in_an_hour(), "reason": "the walk"} if gate.bypassed else None
        self.application.gate(
            name,
            selector={"matchLabels": {"group": gate.group}},
            database={"secretRef": {"name": gate.secret}},
            mode=gate.mode,
            onBehind=gate.on_behind,
            **({"bypass": until} if until else {}),
        )
        self.turn(replace(self.world, gates={**self.world.gates, name: gate}), began)
        return f"gate {name} is {gate}"

    def delete_gate(self) -> str:
        """Delete a gate; no gate selects its pods any more."""
        if not self.world.gates:
            return ""
        name = self.chance.choice(list(self.world.gates))
        began = time.time()
        self.kubectl("delete", "ledgergate", name)
        self.turn(
            replace(self.world, gates={other: gate for other, gate in self.world.gates.items() if other != name}), began
        )
        return f"delete gate {name}"

    def edit_secret(self) -> str:
        """Point a Secret elsewhere, or delete it, and edit the gates that name it: then it is read at once."""
        name = self.chance.choice(SECRETS)
        target = self.chance.choice([each for each in TARGETS if each != self.world.secrets[name]])
        began = time.time()
        behaviour = self.chance.choice(BEHAVIOURS) if target == EVIL else ""
        if target == GONE:
            self.kubectl("delete", "secret", name)
        else:
            self.write_secret(name, behaviour or target)
        patch = json.dumps({"spec": {"maxHold": f"{self.chance.randrange(600, 60_000)}s"}})
        for gate in (gate for gate, each in self.world.gates.items() if each.secret == name):
            self.kubectl("patch", "ledgergate", gate, "--type=merge", "-p", patch)
        before = self.world
        self.turn(replace(before, secrets={**before.secrets, name: target}), began)
        followed = self.follow(name, before.levels.get(before.secrets[name], 0)) if target == EVIL else ""
        return f"Secret {name} leads to {target} {behaviour}{followed}"

    def follow(self, secret: str, level: int) -> str:
        """Create a pod that only the ledger to which a Secret led before would let run.

        It is created once the change must be known. Left to chance, a walk has no such pod: most changes are followed
        by another one while the former ledger is still an excuse, and most pods belong to other gates.
        """
        strict = [
            gate.group
            for gate in self.world.gates.values()
            if gate.secret == secret and gate.on_behind == "Hold" and self.world.claim(gate.group, level) is Claim.WAIT
        ]
        if not strict or not level:
            return ""
        end = time.time() + self.lag + 0.2
        while time.time() < end:
            time.sleep(0.02)  # between two checks
            self.check()
        return f"; {self.create(strict[0], level)}"

    def break_something(self) -> str:
        """Kill the webhook or the controller, or stop the database."""
        if self.world.down:
            return self.mend()
        victim = self.chance.choice(("webhook", "webhook", "controller", FRAGILE))
        began = time.time()
        if victim == FRAGILE:
            self.fragile.stop("immediate")
        else:
            self.installation.kill(victim)
        self.turn(replace(self.world, down=frozenset({victim})), began)
        return f"{victim} is down"

    def mend(self) -> str:
        """Start what is down."""
        if not self.world.down:
            return ""
        (victim,) = self.world.down
        began = time.time()
        if victim == FRAGILE:
            self.fragile.start()
        else:
            self.installation.ensure()
        recovery = {"webhook": 0.0, "controller": NEW_LEADER, FRAGILE: RECONNECTED}[victim]
        self.recovered = time.time() + recovery
        # Until a controller leads and has read the ledgers, admission goes on with what it knew.
        self.chronicle.turn(replace(self.world, down=frozenset()), began, self.recovered)
        return f"{victim} is back"

    # What must hold.

    def rest(self) -> None:
        """Wait, mostly until an earlier world can no longer excuse what happens next."""
        end = time.time() + min(LONGEST_REST, self.chance.choice((self.lag, self.lag, self.limit + 0.2)))
        while time.time() < end:
            time.sleep(0.02)  # between two checks
            self.check()

    def check_refusal(self, pod: WalkPod, refusal: str, at: float) -> None:
        """Check that a pod was refused only with a reason.

        A gate denies it, the webhook was being killed, or the world changed between the two calls of one creation: at
        the first the pod might run, at the second it has to wait, and the second call cannot hold it.
        """
        worlds = self.chronicle.possible(at, self.lag)
        denied = any(world.denies(pod.group, pod.expects) for world in worlds)
        dying = "failed calling webhook" in refusal and any("webhook" in world.down for world in worlds)
        during = self.chronicle.possible(at, self.lag + at - pod.created)
        changed = WITHOUT_GATE in refusal and len({world.claim(pod.group, pod.expects) for world in during}) > 1
        assert denied or dying or changed, f"{pod} was refused: {refusal}\n{self.story()}"

    def check(self) -> None:
        """Check that no pod ran that must not, and that none waits that must run."""
        sights = self.watch.sights
        for sight in sights[self.seen :]:
            pod = self.known(sight.name)
            if pod is None or pod.free or sight.gated or sight.phase == "Deleted":
                continue
            pod.free, self.released = True, self.released + 1
            worlds = self.chronicle.possible(sight.at, self.lag)
            claims = {world.claim(pod.group, pod.expects) for world in worlds}
            assert claims != {Claim.WAIT}, f"{pod} ran, and must not\n{self.story()}"
        self.seen = len(sights)
        now = time.time()
        for pod in tuple(self.pods.values()):
            if not pod.free:
                late = self.overdue(pod, now)
                assert late <= 0, f"{pod} waits, {late:.1f} s longer than it may ({self.limit:.1f} s)\n{self.story()}"

    def known(self, name: str) -> WalkPod | None:
        """Return the pod of this name, if the walk checks it; None for a deleted pod."""
        return self.pods.get(name)

    def overdue(self, pod: WalkPod, now: float) -> float:
        """Return the seconds that a held pod has waited for too long; 0 or less where it has not."""
        worst = -1.0
        for claims, allowed in (({Claim.RUN}, 0.0), ({Claim.RUN, Claim.FREE}, GRACE)):
            since = self.chronicle.since(pod.group, pod.expects, frozenset(claims))
            if since is not None:
                worst = max(worst, now - max(since, pod.created, self.recovered) - allowed - self.limit)
        return worst

    def story(self) -> str:
        """Return the latest steps, the world and the end of the controller's log."""
        return "\n".join([*self.trail[-15:], str(self.world), self.installation.log("controller")[-3000:]])

    # Helpers.

    @property
    def world(self) -> World:
        """The world as it is asked for now."""
        return self.chronicle.world

    def turn(self, world: World, began: float) -> None:
        """Add a change to the chronicle: asked for at a time, and answered now."""
        self.chronicle.turn(world.with_recalled(self.world), began, time.time())

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace, and note how long the request took."""
        began = time.monotonic()
        try:
            return self.application.plane.kubectl(*arguments, "-n", self.application.namespace, stdin=stdin)
        finally:
            self.requests.append(time.monotonic() - began)

    def write_secret(self, name: str, database: str) -> None:
        """Point a Secret at a database."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps({**body, "stringData": {"url": self.urls[database]}}))


W = TypeVar("W", bound=Walk)


@contextmanager
def walking(
    kind: type[W], application: Application, installation: Installation, database: str, fragile: Postgres, place: Path
) -> Iterator[W]:
    """Prepare a namespace with two Secrets, two databases at the first revision and no gate; yield the walk through it.

    Args:
        database: The one that always runs.
        fragile: The server of the one that is stopped now and then.
        place: An empty directory.
    """
    migrations = write_migrations(place / "migrations", REVISIONS)
    urls = {STABLE: database, FRAGILE: fragile.create_database()}
    secrets = dict(zip(SECRETS, (STABLE, FRAGILE), strict=True))
    application.opt_in(database)
    allowed = json.dumps([{"op": "add", "path": "/rules/0/resourceNames/-", "value": "other"}])
    application.plane.kubectl(
        "patch", "role", "ledgergate-database", "--type=json", "-p", allowed, "-n", application.namespace
    )
    application.plane.kubectl("delete", "ledgergate", "app", "-n", application.namespace)
    for url in urls.values():
        migrate(migrations, url, "--to", REVISIONS[0])
    world = World(secrets=secrets, levels=dict.fromkeys(urls, 1))
    with evil_servers() as ports, PodWatch(application.plane, application.namespace) as watch:
        urls |= {name: f"postgresql://u:p@127.0.0.1:{ports[name]}/evil" for name in BEHAVIOURS}
        found = kind(
            application=application,
            installation=installation,
            fragile=fragile,
            urls=urls,
            migrations=migrations,
            chance=random.Random(),  # noqa: S311 - seeded by the test
            chronicle=Chronicle(world, time.time()),
            watch=watch,
        )
        for name, leads_to in secrets.items():
            found.write_secret(name, leads_to)
        yield found
