"""What a migrator brings, whom that would break, and what the gate says of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.contract import Contract
from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.api.objects import LedgerGate, Pod
from webhook.core.contract_state import Brought, ContractStep, ContractWaiting, PodGroup
from webhook.core.contracting import expects_less, lacking, read_brought
from webhook.core.gate import Action, Gate, Policy, parse_gate
from webhook.core.images import ExpectedImage, ImageRecord, UnknownImage
from webhook.core.living import count_living
from webhook.core.pod_verdict import PodVerdict, decide_pod, leave_to_controller, read_required
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason, Verdict

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
A, B, C, D = "20260101_a", "20260102_b", "20260103_c", "20260104_d"


def pod(
    revision: str | None, uid: str = "u", *, status: str = "Running", held: bool = False, **annotations: str
) -> Pod:
    """A pod; `contract="..."` stands for the annotation `ledgergate.dev/contract`, and so on."""
    declared = {f"ledgergate.dev/{name}": text for name, text in annotations.items()}
    if revision is not None:
        declared["ledgergate.dev/revision"] = revision
    owner = {"kind": "ReplicaSet", "name": "gateway-5d4f", "controller": True}
    gates = [{"name": "ledgergate.dev/ledger"}] if held else None
    return msgspec.convert(
        {
            "metadata": {
                "name": uid,
                "uid": uid,
                "annotations": declared,
                "labels": {"pod-template-hash": "5d4f"},
                "ownerReferences": [owner],
            },
            "spec": {"schedulingGates": gates},
            "status": {"phase": status},
        },
        Pod,
    )


def migrator(contract: str = f"{C}:{B}", revision: str | None = B, **annotations: str) -> Pod:
    return pod(revision, "m", status="Pending", held=True, migrates="app", contract=contract, **annotations)


def gate(dialect: str = "ledgergate", policy: Policy | None = None, **fields: Any) -> Gate:
    return Gate("ns", "app", Selector(), "pg", dialect, policy=policy or Policy(), **fields)


def ledger(*names: str, contract: bool = False) -> LedgerSnapshot:
    records = [Record(name, State.APPLIED) for name in names]
    if contract:
        records.append(Record(C, State.APPLIED, compatible_from=B))
    return LedgerSnapshot(Ledger.of(records), NOW)


def decided(subject: Pod, found: Gate, snapshot: LedgerSnapshot | None = None) -> PodVerdict:
    return decide_pod(subject, [(found, snapshot or ledger(A, B))], NOW)


@pytest.mark.parametrize("text", [f"{B}:{A} {D}:{C}", f"{B}:{A},{D}:{C}", f"  {B}.sql:{A}.sql ,\n{D}:{C} "])
def test_contracts_are_separated_by_blanks_or_commas(text: str) -> None:
    """Both forms that `migrate revision` prints are read, with or without a file's extension."""
    assert read_brought(pod(None, contract=text)).contracts == (Contract(B, A), Contract(D, C))


@pytest.mark.parametrize("text", ["x", "a:b:c", "a:", ":b", "a:b c", "a:b " * 17, "a" * 5000])
def test_a_list_that_cannot_be_read_denies_the_migrator(text: str) -> None:
    """A malformed list must not count as an empty one: the migrator is denied, and the message shows the form."""
    verdict = decided(migrator(text), gate()).final
    assert (verdict.reason, verdict.outcome) == (Reason.INVALID, Outcome.DENY)
    assert "CONTRACT:COMPATIBLE_FROM" in verdict.message
    assert len(verdict.message) < 400


def test_the_label_of_the_image_counts_before_the_annotation() -> None:
    """What is known of the image replaces what the pod says."""
    assert read_brought(pod(None, contract="x:y"), f"{C}:{B}") == Brought((Contract(C, B),), uid="u")


@dataclass(frozen=True)
class Images:
    """What every image says."""

    found: ImageRecord | UnknownImage

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return it."""
        del gate, pod, reference
        return self.found


def asked(found: ImageRecord | UnknownImage, **annotations: str) -> Verdict:
    """Return the verdict on a migrator under a gate that asks its image."""
    names = {f"ledgergate.dev/{name}": text for name, text in {"migrates": "app", **annotations}.items()}
    spec = {"containers": [{"name": "main", "image": "app:1"}]}
    subject = msgspec.convert({"metadata": {"uid": "m", "annotations": names}, "spec": spec}, Pod)
    return decide_pod(subject, [(gate(expect_image=ExpectedImage()), ledger(A, B))], NOW, Images(found)).final


def test_a_gate_that_asks_the_image_reads_the_contracts_from_its_label() -> None:
    """A migrator without annotations is guarded; while its image is being read it is held."""
    assert asked(ImageRecord("app@sha256:1", B, f"{C}:{B}")).reason is Reason.STILL_NEEDED
    assert asked(ImageRecord("app@sha256:1", B)).reason is Reason.SELF_MIGRATING
    assert asked(UnknownImage("app:1")).reason is Reason.RESOLVING
    assert asked(UnknownImage("app:1"), contract=f"{C}:{B}").reason is Reason.STILL_NEEDED
    assert asked(UnknownImage("app:1", "it is not there")).reason is Reason.SELF_MIGRATING


def test_a_contract_that_the_ledger_has_holds_nothing() -> None:
    """Only what is pending can break a pod that runs."""
    verdict = decided(migrator(f"{C}:{B}"), gate(), ledger(A, B, contract=True)).final
    assert (verdict.reason, verdict.outcome) == (Reason.SELF_MIGRATING, Outcome.ADMIT)


@pytest.mark.parametrize("fault", [None, Fault.UNREACHABLE, Fault.PENDING])
def test_a_contract_of_which_nothing_is_known_is_held(fault: Fault | None) -> None:
    """A ledger that was never read may lack it."""
    verdict = decided(migrator(), gate(), LedgerSnapshot(fault=fault)).final
    assert (verdict.reason, verdict.outcome) == (Reason.STILL_NEEDED, Outcome.HOLD)


def test_the_phase_expand_leaves_out_the_contracts_at_the_end() -> None:
    """`--phase expand` stops before them; one in the middle of the directory is applied, so it is guarded."""
    required = read_required(migrator(f"{B}:{A} {D}:{C}", revision=C, phase="expand"), gate())
    assert lacking(gate(), required, None) == (Contract(B, A),)
    assert decided(migrator(phase="expand"), gate()).final.reason is Reason.SELF_MIGRATING


def test_the_phase_expand_without_a_revision_leaves_out_nothing() -> None:
    """What stands at the end is not known without it, and one in the middle must not pass unseen."""
    assert decided(migrator(revision=None, phase="expand"), gate()).final.reason is Reason.STILL_NEEDED


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (Action.HOLD, Outcome.HOLD),
        (Action.DENY, Outcome.HOLD),
        (Action.WARN, Outcome.WARN),
        (Action.ALLOW, Outcome.ADMIT),
    ],
)
def test_on_contract_decides(action: Action, outcome: Outcome) -> None:
    """Each value does what it says; before any pod was counted, Deny holds."""
    assert decided(migrator(), gate(policy=Policy(on_contract=action))).final.outcome is outcome


@pytest.mark.parametrize(
    ("uid", "boundary", "needed", "outcome"),
    [
        ("other", B, True, Outcome.DENY),
        ("other", B, False, Outcome.HOLD),
        ("other", A, True, Outcome.HOLD),
        ("m", B, True, Outcome.HOLD),
    ],
)
def test_deny_refuses_only_while_counted_pods_need_the_old_schema(
    uid: str, boundary: str, needed: bool, outcome: Outcome
) -> None:
    """The migrator for which the pods were counted stays held; another one is refused if its boundary is the same."""
    waiting = ContractWaiting(ContractStep(C, boundary, uid, uid), (PodGroup("deployment/gateway", A, 3, needed),))
    verdict = decided(migrator(), gate(policy=Policy(on_contract=Action.DENY), contract_waiting=waiting)).final
    assert verdict.outcome is outcome
    assert ("3 pods of deployment/gateway" in verdict.message) is (needed and (outcome is Outcome.DENY or uid == "m"))


def test_only_the_cleared_migrator_goes() -> None:
    """The controller clears one pod, by its uid: another one that brings the same is held."""
    assert decided(migrator(), gate(cleared="m")).final.outcome is Outcome.ADMIT
    assert decided(migrator(), gate(cleared="other")).final.outcome is Outcome.HOLD
    unborn = msgspec.structs.replace(migrator(), metadata=msgspec.structs.replace(migrator().metadata, uid=""))
    assert decided(unborn, gate()).final.outcome is Outcome.HOLD


def test_the_message_counts_the_pods() -> None:
    """The message names the owner of most of them, and counts the pods that declare nothing."""
    groups = (PodGroup("deployment/gateway", A, 3), PodGroup("job/x", A, 1), PodGroup("", "", 2, needed=False))
    waiting = ContractWaiting(ContractStep(C, B, "m", "m"), groups)
    assert decided(migrator(), gate(contract_waiting=waiting)).final.message == (
        f"contract migration {C} of ledger app needs images from {B} on; 3 pods of deployment/gateway expect {A}, and "
        "1 more pod cannot run with it (2 pods declare nothing): the migrator is held while older pods run"
    )


def test_a_running_contract_shuts_older_pods_out_whatever_else_holds() -> None:
    """So is one that brings its own migrator, one whose ledger cannot be read, and one that `onBehind` would admit."""
    shut = gate(policy=Policy(on_behind=Action.WARN), contracting=ContractStep(C, B, "m", "m"))
    for snapshot in (ledger(A, B), ledger(), LedgerSnapshot(fault=Fault.UNREACHABLE)):
        for subject in (pod(A), pod(A, migrates="app"), pod(A, migrates="app", contract=f"{C}:{B}")):
            verdict = decided(subject, shut, snapshot).final
            assert (verdict.reason, verdict.outcome) == (Reason.INCOMPATIBLE, Outcome.DENY)
            assert "is being applied" in verdict.message
    assert decided(pod(B), shut).final.outcome is Outcome.ADMIT
    assert decided(pod(None), shut).final.reason is Reason.UNDECLARED


def test_an_older_image_with_its_own_migrator_is_shut_out_by_an_applied_contract() -> None:
    """It would find the barrier in the ledger, and its application could not run."""
    assert decided(pod(A, migrates="app"), gate(), ledger(A, B, contract=True)).final.reason is Reason.INCOMPATIBLE


def test_an_announcement_leaves_older_pods_to_the_controller() -> None:
    """Admission holds older pods and leaves their release to the controller; other pods are not affected."""
    announced = gate(contract_waiting=ContractWaiting(ContractStep(C, B, "m", "m")))
    older = decided(pod(A), announced)
    assert older.final.outcome is Outcome.ADMIT
    assert leave_to_controller(older).final.outcome is Outcome.HOLD
    assert leave_to_controller(decided(pod(B), announced)).final.outcome is Outcome.ADMIT
    assert leave_to_controller(decided(pod(None), announced)).final.outcome is Outcome.WARN


def test_the_contracts_of_another_tools_ledger_are_in_the_spec() -> None:
    """Once such a revision is applied, images that expect less are shut out."""
    named = gate("knex", contracts=(Contract(C, B),))
    assert decided(pod(A), named, ledger(A, B)).final.reason is Reason.AHEAD
    assert decided(pod(A), named, ledger(A, B, C)).final.reason is Reason.INCOMPATIBLE
    assert decided(pod(B), named, ledger(A, B, C)).final.reason is Reason.AHEAD


def test_heads_are_compared_by_ancestors_or_by_the_ledger() -> None:
    """Alembic's names have no order: the pod's ancestors decide, else the ledger, which may not know either (None)."""
    heads = gate("alembic")
    history = Ledger.of([Record("zzz", State.APPLIED)])
    assert expects_less(heads, read_required(pod("aaa", ancestors="zzz"), heads), "zzz", None) is False
    assert expects_less(heads, read_required(pod("aaa", ancestors="yyy"), heads), "zzz", None) is True
    assert expects_less(heads, read_required(pod("aaa"), heads), "zzz", history) is None


def test_the_status_is_read_as_it_was_written() -> None:
    """The webhook and the next controller read what the controller has written."""
    step = ContractStep(C, B, "migrate-x", "uid-1", "2026-01-26T12:00:00Z")
    waiting = ContractWaiting(step, (PodGroup("deployment/gateway", A, 3),))
    spec = {"selector": {}, "database": {"secretRef": {"name": "pg"}}, "ledger": {"dialect": "ledgergate"}}
    status = {"contracting": step.as_json(), "contractWaiting": waiting.as_json(A)}
    found = parse_gate(msgspec.convert({"spec": spec, "status": status}, LedgerGate))
    assert (found.contracting, found.contract_waiting) == (step, waiting)


REVISIONS = st.sampled_from([None, A, B, C])
PODS = st.lists(st.tuples(REVISIONS, st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]), st.booleans()))


@given(PODS, st.sampled_from([Action.WARN, Action.HOLD]))
def test_exactly_the_living_pods_that_expect_less_are_waited_for(
    pods: list[tuple[str | None, str, bool]], on_undeclared: Action
) -> None:
    """Pods that have ended or are held are not waited for; those that declare nothing are if `onUndeclared` is Hold."""
    found = gate(policy=Policy(on_undeclared=on_undeclared))
    subjects = [pod(name, f"u{i}", status=status, held=held) for i, (name, status, held) in enumerate(pods)]
    living = count_living(
        found,
        [*subjects, migrator(revision=A)],
        (Contract(C, B),),
        None,
        migrator="m",
        read=lambda each: read_required(each, found),
        released=lambda _: False,
    )
    wanted = [name for name, status, held in pods if status in {"Pending", "Running"} and not held]
    needed = [name for name in wanted if name == A or (name is None and on_undeclared is Action.HOLD)]
    assert living.needed == len(needed)
    assert sum(group.count for group in living.groups) == len(wanted)
    assert living.oldest == min((name for name in wanted if name), default="")


def test_a_pod_that_is_being_released_is_living() -> None:
    """The request that takes its gate off may be on its way."""
    subject = pod(A, held=True)
    for released in (True, False):
        living = count_living(
            gate(),
            [subject],
            (Contract(C, B),),
            None,
            migrator="m",
            read=lambda each: read_required(each, gate()),
            released=lambda _, answer=released: answer,  # type: ignore[misc]
        )
        assert living.needed == released
