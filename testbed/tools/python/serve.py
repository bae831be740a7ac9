"""Answers the requests of testbed/tools/driver.py, one JSON object a line: {act, ...} to {error, applied}."""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence


def serve(acts: Mapping[str, Callable[..., object]], status: Callable[[], Sequence[str]]) -> None:
    """Carry out what is asked until nobody asks.

    Args:
        acts: What can be done.
        status: What the tool itself says that it has applied, oldest first; asked after every act.
    """
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            asked = json.loads(line)
            act, error = asked.pop("act"), None
            try:
                if act != "status":
                    acts[act](**asked)
            except (Exception, SystemExit) as thrown:  # noqa: BLE001 - whatever the tool raises is its answer
                error = str(thrown) or repr(thrown)
            answers.write(json.dumps({"error": error, "applied": list(status())}) + "\n")
            answers.flush()
