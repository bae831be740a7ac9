"""A PostgreSQL on Windows (and one of version 14 on macOS) refuses every value of this parameter but 0.

Here the value is one that every server refuses.
"""

import sys
from importlib.metadata import entry_points

from migrations import runner

runner.SETTINGS["client_connection_check_interval"] = "-1"
sys.argv = ["ledgergate", "migrate", "up"]
next(e for e in entry_points(group="console_scripts") if e.name == "ledgergate").load()()
