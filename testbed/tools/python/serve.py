"""A server of testbed/tools/driver.py: each line is a JSON object, {act, ...} answered by {error, applied}."""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence


def serve(acts: Mapping[str, Callable[..., object]], status: Callable[[], Sequence[str]]) -> None:
    """Answer requests until standard input ends.

    Args:
        acts: Function of each request.
        status: Returns the migrations that the tool lists as applied, oldest first; called after every request.
    """
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            asked = json.loads(line)
            act, error = asked.pop("act"), None
            try:
                if act != "status":
                    acts[act](**asked)
            except (Exception, SystemExit) as thrown:  # noqa: BLE001 - any error of the tool is its answer
                error = str(thrown) or repr(thrown)
            answers.write(json.dumps({"error": error, "applied": list(status())}) + "\n")
            answers.flush()
