"""kubernetes_asyncio is imported without its models, and the parts that are used are the library's own."""

import subprocess
import sys

import pytest

NAMES = {
    "ApiClient": "api_client",
    "Configuration": "configuration",
    "CoordinationV1Api": "api.coordination_v1_api",
    "V1Lease": "models.v1_lease",
    "V1LeaseSpec": "models.v1_lease_spec",
    "V1ObjectMeta": "models.v1_object_meta",
}


def run(program: str) -> str:
    """Run a program in a process of its own, which has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("module", ["webhook.cli.serve", "webhook.kube.leader_election", "webhook.cli.status"])
def test_the_models_are_not_imported(module: str) -> None:
    """Whichever module of the product is imported first: the library has 1,500 modules, which slow down every start."""
    program = f"import sys, {module}\nprint(*(name for name in sys.modules if name.startswith('kubernetes_asyncio')))"
    imported = run(program).split()
    assert "kubernetes_asyncio.client.api_client" in imported
    assert len(imported) < 40


@pytest.mark.parametrize("prepare", ["import webhook.kube", "pass"])
def test_names_are_those_of_the_whole_library(prepare: str) -> None:
    """Each class is found under the same name, in the same module, with and without the preparation."""
    program = f"{prepare}\nfrom kubernetes_asyncio import client\n"
    program += f"for name in {tuple(NAMES)}: found = getattr(client, name); print(found.__module__, found.__name__)"
    expected = [f"kubernetes_asyncio.client.{module} {name}" for name, module in NAMES.items()]
    assert run(program).splitlines() == expected


def test_a_name_that_the_library_lacks_is_missing() -> None:
    """As in any module, so that `hasattr` and `from … import …` work."""
    program = "import webhook.kube\nfrom kubernetes_asyncio import client\n"
    assert run(f"{program}print(hasattr(client, 'Nonsense'), hasattr(client.models, 'V1Nonsense'))") == "False False\n"


def test_a_library_that_was_imported_before_is_left_alone() -> None:
    """A program that has imported the whole library keeps all of it."""
    program = "import kubernetes_asyncio.client as before, webhook.kube, kubernetes_asyncio.client as after\n"
    assert run(f"{program}print(before is after, hasattr(after.models, 'V1Pod'))") == "True True\n"


def test_a_pod_of_the_cluster_reads_no_yaml() -> None:
    """The webhook and the controller find their credentials in files that are no kubeconfig."""
    program = (
        "import asyncio, sys\nfrom webhook.kube import kubeconfig\ntry: asyncio.run(kubeconfig.connect(None, 'test'))\n"
        "except kubeconfig.KubeconfigError as error: print(error)\nprint('yaml' in sys.modules)"
    )
    error, imported = run(program).splitlines()
    assert error.startswith("no access to an API server: Service host/port is not set")
    assert imported == "False"
