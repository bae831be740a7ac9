"""The command line of each program of a control plane; nothing is started here.

The flags are the fewest that give RBAC, service account tokens and the default admission plugins; see
the reference of each program under https://kubernetes.io/docs/reference/command-line-tools-reference/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STAGES = Path(__file__).with_name("stages")
_POLICY_KINDS = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
WITHOUT_POLICY = (
    "--disable-admission-plugins=MutatingAdmissionPolicy",
    f"--runtime-config={','.join(f'admissionregistration.k8s.io/v1/{kind}=false' for kind in _POLICY_KINDS)}",
)
"""Flags with which an API server of Kubernetes 1.36 or newer lacks MutatingAdmissionPolicy, as older versions do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Directories and ports of one plane.

    Attributes:
        programs: Directory of the executables.
        directory: The plane's own directory.
        etcd_port: Client port of etcd on 127.0.0.1.
        peer_port: Peer port of etcd, which is required but unused.
        api_port: The API server's port.
        api_flags: Further flags of the API server.
    """

    programs: Path
    directory: Path
    etcd_port: int
    peer_port: int
    api_port: int
    api_flags: tuple[str, ...] = ()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self.api_port}"

    def file(self, name: str) -> Path:
        """Return the path of a file of the plane."""
        return self.directory / name


def commands(at: Layout) -> Mapping[str, list[str | Path]]:
    """Return the command line of every program of the plane, by name."""
    return {
        "etcd": _etcd(at),
        "kube-apiserver": _apiserver(at),
        "kube-controller-manager": [
            at.programs / "kube-controller-manager",
            f"--kubeconfig={at.file('kube-controller-manager.kubeconfig')}",
            f"--root-ca-file={at.file('ca.crt')}",
            f"--service-account-private-key-file={at.file('service-accounts.key')}",
            "--use-service-account-credentials",
            # Each of forty controllers requests its token first: 4 s at the default of 20 requests a second.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        "kube-scheduler": [
            at.programs / "kube-scheduler",
            f"--kubeconfig={at.file('kube-scheduler.kubeconfig')}",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        "kwok": [
            at.programs / "kwok",
            f"--kubeconfig={at.file('admin.kubeconfig')}",
            "--manage-all-nodes",
            # The nodes' heartbeat is a Stage; a lease would only delay the start by some seconds.
            "--node-lease-duration-seconds=0",
            "--cidr=10.244.0.1/16",
            *(f"--config={stages}" for stages in sorted(STAGES.glob("*.yaml"))),
        ],
    }


def _etcd(at: Layout) -> list[str | Path]:
    client, peer = f"http://127.0.0.1:{at.etcd_port}", f"http://127.0.0.1:{at.peer_port}"
    return [
        at.programs / "etcd",
        f"--data-dir={at.file('etcd')}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # The data is removed with the plane, so it need not survive a crash of the machine.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(at: Layout) -> list[str | Path]:
    return [
        at.programs / "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{at.etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={at.api_port}",
        f"--cert-dir={at.directory}",
        f"--tls-cert-file={at.file('apiserver.crt')}",
        f"--tls-private-key-file={at.file('apiserver.key')}",
        f"--client-ca-file={at.file('ca.crt')}",
        f"--service-account-key-file={at.file('service-accounts.pub')}",
        f"--service-account-signing-key-file={at.file('service-accounts.key')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        # Loopback addresses, so that a test can listen on a Service's address: there is no kube-proxy.
        "--service-cluster-ip-range=127.96.0.0/16",
        "--authorization-mode=RBAC",
        # 127.0.0.1 is not allowed in an Endpoints object, and nothing here reads that object.
        "--endpoint-reconciler-type=none",
        *at.api_flags,
    ]
