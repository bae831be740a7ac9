"""The webhook's process has nothing with which it could open a database."""

import json
import subprocess
import sys

CODE = """
import json, sys
from webhook.app import run_webhook
from webhook.cli.main import main
from webhook.cli.serve import webhook
print(json.dumps(sorted(sys.modules)))
"""
FOREIGN = ("asyncpg", "pglast", "migrations.postgres", "migrations.reader", "webhook.ledgers", "webhook.controller")


def test_the_webhook_imports_no_driver() -> None:
    """Neither asyncpg nor a module that reads ledgers or Secrets of databases, also by way of another."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, text=True, capture_output=True, timeout=60)
    loaded = json.loads(done.stdout)
    assert "webhook.admission.server" in loaded
    assert [name for name in loaded if name.startswith(FOREIGN)] == []
