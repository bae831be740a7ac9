"""Unknown labels of a namespace: the user who sets one gets a warning, and nothing is refused."""

import pytest

from testbed.cluster.application import Application
from testbed.waiting import until


@pytest.mark.parametrize(
    ("label", "warning"),
    [
        (
            "admission=Enabled",
            "label ledgergate.dev/admission=Enabled is not known, so ledgergate ignores the namespace",
        ),
        ("undeclared=waits", "label ledgergate.dev/undeclared=waits is not known and has no effect: expected wait"),
        ("undeclare=wait", "label ledgergate.dev/undeclare is not known and has no effect: ledgergate reads"),
    ],
)
def test_a_label_that_is_misspelt_is_warned_of(application: Application, label: str, warning: str) -> None:
    """`kubectl label` prints what was expected, and sets it all the same."""
    command = ("label", "namespace", application.namespace, "--overwrite")

    def warned() -> str:
        said = application.plane.kubectl(*command, f"ledgergate.dev/{label}", check=False)
        application.plane.kubectl(*command, f"ledgergate.dev/{label.partition('=')[0]}-")
        return said if "Warning" in said else ""

    said = until("the policy to count", warned)
    assert warning in said
    assert "labeled" in said


def test_known_labels_are_set_without_a_warning(application: Application) -> None:
    """A label of another domain causes no warning either."""
    command = ("label", "namespace", application.namespace, "--overwrite")
    known = ("ledgergate.dev/admission=audit", "ledgergate.dev/undeclared=wait", "example.com/admission=Enabled")
    assert "Warning" not in application.plane.kubectl(*command, *known, check=False)
