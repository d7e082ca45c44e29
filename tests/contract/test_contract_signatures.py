"""The contract, checked to the letter: names, order, kinds, defaults, annotations as text, async-ness."""

from __future__ import annotations

import abc
import importlib
import inspect
from typing import Any


def written(method: dict[str, Any]) -> inspect.Signature:
    """Build the signature that the contract writes down, annotations kept as text."""
    namespace: dict[str, Any] = {}
    source = f"from __future__ import annotations\ndef it({method['params']}) -> {method['returns']}: ..."
    exec(source, namespace)  # the text is a file of this repository
    return inspect.signature(namespace["it"])


def test_class_exists_and_its_package_exports_it(contract_class):
    """The class is where the contract says, and its package hands out the very same class."""
    cls = contract_class.load()
    assert inspect.isclass(cls)
    package = importlib.import_module(contract_class.module.rpartition(".")[0])
    assert getattr(package, contract_class.name) is cls
    assert cls.__doc__


def test_signature_is_exact(contract_class, method):
    """A method has exactly the contract's signature and is a coroutine function where it says so."""
    function = inspect.getattr_static(contract_class.load(), method["name"])
    assert inspect.isfunction(function)
    assert inspect.signature(function) == written(method)
    assert inspect.iscoroutinefunction(function) is method["async"]


def test_abstract_where_the_contract_says_so(contract_class):
    """An abstract class of the contract is an ABC with exactly these abstract methods; others can be built."""
    cls = contract_class.load()
    names = {method["name"] for method in contract_class.spec["methods"]}
    if contract_class.abstract:
        assert issubclass(cls, abc.ABC)
        assert cls.__abstractmethods__ == names
    else:
        assert not inspect.isabstract(cls)


def test_service_methods(service):
    """A service has the contract's methods with its parameters, coroutine functions but for the helpers."""
    cls = service.load()
    for kind, is_async in (("coroutines", True), ("functions", False)):
        for name, expected in service.spec[kind].items():
            function = getattr(cls, name)
            assert inspect.iscoroutinefunction(function) is is_async, name
            parameters = [str(p.replace(annotation=p.empty, default=p.empty)) for p in _parameters(function)]
            assert parameters == expected, name


def test_service_attributes_and_ready_instance(service):
    """A service carries the contract's attributes from the start and is not connected by being imported."""
    cls = service.load()
    made = cls()
    missing = [name for name in service.spec["attributes"] if not hasattr(made, name)]
    assert not missing
    assert made._is_initialized is False
    ready = getattr(importlib.import_module("balance.services"), service.spec["instance"])
    assert isinstance(ready, cls)


def test_services_export_six_names(everything, not_yet):
    """``balance.services.__all__`` lists the three classes and their instances, and nothing else."""
    services = [entry for entry in everything if entry.module == "balance.services"]
    if any(entry.path in not_yet for entry in services):
        return
    expected = {name for entry in services for name in (entry.name, entry.spec["instance"])}
    assert set(importlib.import_module("balance.services").__all__) == expected


def test_not_yet_names_only_the_contract(everything, not_yet):
    """Every line of not_yet.txt is a class of the contract, so that a typo can't hide a missing one."""
    assert not_yet <= {entry.path for entry in everything}


def _parameters(function: Any) -> list[inspect.Parameter]:
    return [p for name, p in inspect.signature(function).parameters.items() if name != "self"]
