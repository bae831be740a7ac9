"""The controller's account, as the manifests name it and as it is: kustomize's `namespace` changes only the latter."""

import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.admission_chain import NOW, Ledgers
from tests.admission_subjects import BEHIND, gate, pod, update
from webhook.admission.handlers import Admission, Result
from webhook.admission.review import UserInfo
from webhook.api.account import controller_account, find_other_accounts
from webhook.api.objects import SCHEDULING_GATE
from webhook.controller.own_account import OwnAccount
from webhook.kube.errors import NotFound

FILES = Path(__file__).parents[2] / "manifests/chart/files/base"
LINE = "transformers: [.../manifests/transformers/namespace]"
NAMED = "request.userInfo.username != 'system:serviceaccount:ledgergate:controller'"


def shipped() -> dict[str, Any]:
    """Return the validating webhook configuration of the manifests."""
    objects = yaml.safe_load_all((FILES / "admission.yaml").read_text())
    return next(each for each in objects if each["kind"] == "ValidatingWebhookConfiguration")


class Configurations:
    """An API server with one configuration, or none."""

    def __init__(self, found: object = None) -> None:
        self.found = found

    async def request(self, method: str, path: str) -> bytes:
        """Return the configuration."""
        assert (method, path.rpartition("/")[2]) == ("GET", "ledgergate")
        if self.found is None:
            raise NotFound("404: no such configuration")
        return json.dumps(self.found).encode()


def test_other_accounts() -> None:
    """A condition is wrong only if it names the account of a controller elsewhere and not this one."""
    assert find_other_accounts([NAMED, "true", ""], "ledgergate") == ()
    assert find_other_accounts([NAMED], "guard") == ("system:serviceaccount:ledgergate:controller",)
    both = f"!(request.userInfo.username in ['{controller_account('guard')}', '{controller_account('a')}'])"
    assert find_other_accounts([both], "guard") == ()
    assert find_other_accounts([both, NAMED], "guard") == ("system:serviceaccount:ledgergate:controller",)
    assert find_other_accounts(["request.userInfo.username == 'jane'"], "guard") == ()


async def test_a_wrong_configuration_is_said_until_it_is_corrected() -> None:
    """The problem names the line to add; a configuration that cannot be read neither causes it nor ends it."""
    api = Configurations()
    account = OwnAccount(api, "guard")
    assert (await account._look(), account.problem) == (False, "")
    api.found = shipped()
    assert await account._look()
    assert LINE in account.problem
    assert "system:serviceaccount:ledgergate:controller for the controller" in account.problem
    api.found = None
    assert not await account._look()
    assert account.problem
    moved = json.dumps(shipped()).replace("serviceaccount:ledgergate:", "serviceaccount:guard:")
    api.found = json.loads(moved)
    assert (await account._look(), account.problem) == (True, "")


async def test_the_manifests_name_the_account_of_their_namespace() -> None:
    """The manifests as shipped cause no problem in their own namespace."""
    account = OwnAccount(Configurations(shipped()), "ledgergate")
    assert (await account._look(), account.problem) == (True, "")


def test_a_controller_that_is_refused_learns_why() -> None:
    """A refused release by the controller itself names the line to add; a refusal of any other user does not."""
    own = controller_account("guard")
    view = Ledgers([gate()], BEHIND)
    asked = Admission(view, view, lambda: NOW, controller=own)
    removal = update(pod(SCHEDULING_GATE), pod())
    for user, named in ((own, True), ("jane", False), ("", False)):
        answer = asked.validate(msgspec.structs.replace(removal, user_info=UserInfo(username=user)))
        assert answer.result is Result.DENIED
        assert (LINE in answer.message) is named
