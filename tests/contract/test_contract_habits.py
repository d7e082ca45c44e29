"""River-style habits: what every class of the contract does, checked over all that are built."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import operator
import pickle
from typing import Any

import pytest

#: Why a class need not pickle.  Deciders that hold state do; shells around open resources can't.
NOT_PICKLED = {
    "TaskScheduler": "holds the caller's callables and a running executor",
    "ResourceAllocator": "holds the probe and the places of this very process",
    "OperationCoordinator": "holds a scheduler",
    "ModelCoordinator": "holds an allocator",
    "DataCoordinator": "holds open places and readers",
    "SyncManager": "holds open file systems",
    "BatchProcessor": "holds the caller's handlers",
    "DataService": "holds a connection",
    "ModelService": "holds a connection",
    "MessagingService": "holds a connection",
}

REQUESTS = [
    {"request_id": "a", "model_id": "m", "query": "Alpha", "timestamp": 1_700_000_000.0, "data_size": 100},
    {"request_id": "b", "model_id": "m", "query": " alpha", "timestamp": 1_700_000_001.0, "data_size": 300},
]

#: Calls in order on one fresh object: the results must be JSON values.
CALLS: dict[str, list[tuple[str, tuple[Any, ...]]]] = {
    "ModelNeedsPredictor": [("predict_needs", ("m", REQUESTS))],
    "ResourcePredictor": [("predict_resources", ("m", [{"timestamp": 1.0, "cpu": 0.5, "memory": 1024}]))],
    "LoadPredictor": [("predict_load", ()), ("predict_load", (300,))],
    "PredictionTuner": [("tune_predictions", ("m", {"values": [1.0, 3.0, 2.0] * 9, "timestamps": list(range(27))}))],
    "UsageAnalyzer": [("record", ("m", 1_700_000_000.0)), ("analyze_usage", ("m",))],
    "BehaviorAnalyzer": [("record", ("m", 1_700_000_000.0)), ("analyze_behavior", ("m",))],
    "TrendDetector": [("record", ("m", 1_700_000_000.0)), ("detect_trend", ("m",))],
    "AccuracyMonitor": [("monitor_accuracy", ("m", {"values": [1.0, 2.0]}, {"point": [1.0, 1.5]}))],
    "ModelOptimizer": [
        ("optimize_model", ("m", {"method": "a", "by_method": {"a": {"mae": 2.0, "simple_mae": 1.0, "scored": 99}}}))
    ],
    "RequirementAnalyzer": [
        ("log_data_request", ("m", 100)),
        ("analyze_needs", ("m", REQUESTS)),
        ("detect_data_shortage", ("m", 200)),
    ],
    "DistributionAnalyzer": [
        ("log_data_usage", ("m", 100)),
        ("log_data_usage", ("n", 900)),
        ("analyze_distribution", ()),
        ("detect_imbalance", ()),
    ],
    "QualityAnalyzer": [
        ("log_data_quality", ("m", 100, 30, 0.6)),
        ("analyze_quality", ()),
        ("detect_low_quality_models", ()),
    ],
    "ImpactAnalyzer": [
        ("log_impact", ("m", 10.0, 2000, 0.5)),
        ("analyze_impact", ()),
        ("detect_high_impact_models", ()),
    ],
    "TaskScheduler": [
        ("schedule_task", (operator.add, 2, 0, 1, 2)),
        ("get_scheduled_tasks", ()),
        ("execute_next_task", ()),
        ("run_scheduler", ()),
    ],
    "ResourceAllocator": [
        ("get_system_resources", ()),
        ("can_allocate_resources", (0.1, 1024)),
        ("allocate_resources", (0.1, 1024)),
        ("allocate_resources", (1e6, 1024)),
    ],
    "PriorityManager": [
        ("set_priority", ("t", 3)),
        ("get_priority", ("t",)),
        ("adjust_priority", ("t", -9)),
        ("get_sorted_tasks", ()),
    ],
    "DependencyResolver": [
        ("add_dependency", ("t", ["s"])),
        ("get_dependencies", ("t",)),
        ("can_execute", ("t",)),
        ("resolve_dependencies", ("t",)),
    ],
    "OperationCoordinator": [
        ("execute_task", ("t", dict, 0.1, 1024)),
        ("get_task_status", ("t",)),
    ],
    "ModelCoordinator": [
        ("register_model", ("m", 0.1, 1024)),
        ("allocate_resources_for_model", ("m",)),
        ("get_model_status", ("m",)),
        ("release_resources", ("m",)),
    ],
    "DataCoordinator": [("register_data_source", ("d", 5, "memory://contract/d.txt"))],
    "SyncManager": [
        ("register_sync_task", ("s", "memory://contract/s", "memory://contract/t", 5)),
        ("get_sync_status", ("s",)),
    ],
    "BatchProcessor": [("process_batch", (REQUESTS,)), ("process_batch", ([],))],
    "RequestMerger": [("merge_requests", (REQUESTS,))],
    "BatchSplitter": [("split_large_batches", (REQUESTS,))],
    "DataService": [("_estimate_processing_time", ("wiki", {}))],
    "ModelService": [],
    "MessagingService": [("_get_timestamp", ())],
}


def test_builds_with_no_arguments_and_only_keyword_collaborators(concrete_class):
    """A class builds bare; what it takes is keyword-only and has a default."""
    cls = concrete_class.load()
    cls()
    for name, parameter in inspect.signature(cls).parameters.items():
        assert parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD), name
        assert parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD, name


def test_no_mutable_defaults(concrete_class):
    """No default is a list, dict or set: it would be shared between calls."""
    cls = concrete_class.load()
    for function in (f for _, f in inspect.getmembers(cls, inspect.isfunction)):
        for name, parameter in inspect.signature(function).parameters.items():
            assert not isinstance(parameter.default, list | dict | set), f"{function.__qualname__}({name})"


def test_docstrings_read_well(concrete_class):
    """The class and the contract's methods say in one sentence what they do; the class shows an example."""
    cls = concrete_class.load()
    assert ">>>" in cls.__doc__, "an example that runs"
    names = [m["name"] for m in concrete_class.spec.get("methods", ())] + list(
        concrete_class.spec.get("coroutines", ())
    )
    for thing in (cls, *(getattr(cls, name) for name in names)):
        doc = inspect.cleandoc(thing.__doc__ or "")
        assert doc.split("\n\n")[0].rstrip().endswith((".", ":")), f"{thing.__qualname__}: {doc[:80]!r}"


def test_results_are_json_values(concrete_class):
    """What a method returns goes through JSON unchanged, NaN and infinity excluded."""
    cls = concrete_class.load()
    if concrete_class.name not in CALLS:
        pytest.fail(f"{concrete_class.path} is built: add example calls to CALLS in {__file__}")
    made = cls()
    for name, arguments in CALLS[concrete_class.name]:
        result = getattr(made, name)(*arguments)
        result = asyncio.run(result) if inspect.iscoroutine(result) else result
        assert_json(result, f"{concrete_class.name}.{name}()")
        assert _as_lists(result) == json.loads(json.dumps(result, allow_nan=False))


def test_state_survives_a_pickle(concrete_class):
    """A decider pickles with its state, so that an actor can snapshot it."""
    cls = concrete_class.load()
    if concrete_class.name in NOT_PICKLED:
        with_reason = NOT_PICKLED[concrete_class.name]
        pytest.skip(with_reason)
    made = cls()
    for name, arguments in CALLS.get(concrete_class.name, ()):
        getattr(made, name)(*arguments)
    copy = pickle.loads(pickle.dumps(made))
    assert type(copy) is cls
    for name, arguments in CALLS.get(concrete_class.name, ()):
        if not arguments:
            assert type(getattr(copy, name)()) is type(getattr(made, name)())


def test_lists_name_only_classes_of_the_contract(everything):
    """The tables of this file can't drift: each name in them is a class of the contract."""
    assert set(NOT_PICKLED) | set(CALLS) <= {entry.name for entry in everything}


def assert_json(value: Any, where: str) -> None:
    """Check by hand: ``json.dumps`` would let NaN, tuples and keys that are not strings through."""
    if isinstance(value, dict):
        for key, inner in value.items():
            assert isinstance(key, str), f"{where} has the key {key!r}"
            assert_json(inner, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            assert_json(inner, f"{where}[{index}]")
    elif isinstance(value, tuple):  # the contract's List[Tuple[str, int]]
        for inner in value:
            assert_json(inner, where)
    elif isinstance(value, float):
        assert math.isfinite(value), f"{where} is {value}"
    else:
        assert value is None or isinstance(value, str | int | bool), f"{where} is a {type(value).__name__}"


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(inner) for key, inner in value.items()}
    return [_as_lists(inner) for inner in value] if isinstance(value, list | tuple) else value
