"""Import only the parts of kubernetes_asyncio that are used.

Its packages import every model class and every API, 1,500 modules: 45 MB and most of the time that a start takes.
ledgergate uses its client, its readers of kubeconfigs, and its leader election with one API and the models of a Lease.
So the packages are registered without running their own code; each attribute is imported from the module that defines
it when it is first used.
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from typing import Any

_LIBRARY = "kubernetes_asyncio"
_CLIENT = f"{_LIBRARY}.client"
_CONFIG = f"{_LIBRARY}.config"
_MODULES = {
    "ApiClient": f"{_CLIENT}.api_client",
    "Configuration": f"{_CLIENT}.configuration",
    "ConfigException": f"{_CONFIG}.config_exception",
    "load_incluster_config": f"{_CONFIG}.incluster_config",
    "load_kube_config": f"{_CONFIG}.kube_config",
}


def prepare() -> None:
    """Register the packages, unless the library is absent or was imported as a whole before."""
    if _LIBRARY in sys.modules or importlib.util.find_spec(_LIBRARY) is None:
        return
    _register(_LIBRARY, lambda name: importlib.import_module(f"{_LIBRARY}.{name}"))
    _register(_CLIENT, _of_client)
    _register(f"{_CLIENT}.models", _of_models)
    _register(f"{_CLIENT}.api", _of_apis)
    _register(_CONFIG, _of_config)  # in a cluster no YAML is read


def _register(package: str, lookup: Callable[[str], Any]) -> None:
    """Put a package in its place; its missing attributes are looked up (PEP 562)."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return  # another version of the library, which has no such package
    module = importlib.util.module_from_spec(spec)

    def look_up(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            found = lookup(name)
        except ModuleNotFoundError as error:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from error
        setattr(module, name, found)
        return found

    vars(module)["__getattr__"] = look_up
    sys.modules[package] = module
    parent, _, child = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _of_client(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if not name[0].isupper():
        return importlib.import_module(f"{_CLIENT}.{name}")
    return _of_apis(name) if name.endswith("Api") else _of_models(name)


def _of_config(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    return importlib.import_module(f"{_CONFIG}.{name}")


def _of_apis(name: str) -> Any:
    return _member(f"{_CLIENT}.api", name)


def _of_models(name: str) -> Any:
    return _member(f"{_CLIENT}.models", name)


def _member(package: str, name: str) -> Any:
    """Import a class from its module: V1LeaseSpec is in v1_lease_spec."""
    module = importlib.import_module(f"{package}.{_snake_case(name)}")
    return getattr(module, name, module)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
