"""`ledgergate annotate` as Helm's post-renderer, by the plugin in manifests/helm-plugin."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

PLUGIN = Path(__file__).parents[3] / "manifests" / "helm-plugin"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway}
spec:
  template:
    metadata: {labels: {app: gateway}}
    spec: {containers: [{name: app}]}
"""


def test_the_plugin_annotates_what_helm_renders(helm_program: Path, tmp_path: Path) -> None:
    """Installed as the plugin's file says, with flags by --post-renderer-args; its refusal stops Helm."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
    (chart / "templates" / "deployment.yaml").write_text(DEPLOYMENT)
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (migrations / "20250101000000_a.sql").write_text("-- migrate:up\nselect 1;")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **{f"HELM_{name}_HOME": str(tmp_path / name.lower()) for name in ("DATA", "CACHE", "CONFIG")},
    }

    def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [helm_program, *arguments], env=environment, check=False, capture_output=True, text=True, timeout=120
        )

    installed = helm("plugin", "install", PLUGIN)
    assert installed.returncode == 0, installed.stderr
    flags = (f"--dir={migrations}", "--workload=deployment/gateway")
    rendered = helm("template", "shop", chart, "--post-renderer", "ledgergate-annotate", *_arguments(*flags))
    assert rendered.returncode == 0, rendered.stderr
    (deployment,) = yaml.safe_load_all(rendered.stdout)
    assert deployment["spec"]["template"]["metadata"] == {
        "labels": {"app": "gateway"},
        "annotations": {"ledgergate.dev/revision": "20250101000000_a+1.5234a921d098"},
    }
    refused = helm("template", "shop", chart, "--post-renderer", "ledgergate-annotate", *_arguments(flags[0]))
    assert refused.returncode != 0
    assert "ledgergate-annotate" in refused.stderr  # Helm 4.3 does not show what a post-renderer writes there
    assert refused.stdout == ""


def _arguments(*flags: str) -> list[str]:
    return [f"--post-renderer-args={flag}" for flag in flags]
