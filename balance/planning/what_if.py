"""What would be decided if something were different: the plan of a changed snapshot, held against the real one's.

It is the planner itself that answers, so an answer is worth as much as its plans are.  Only what the snapshot says is
changed; what was learnt about the models stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from balance.errors import Conflict, InvalidValue, UnknownId
from balance.planning.decision import Decision, Plan
from balance.planning.snapshot import DemandForecast, ModelState, Snapshot
from balance.types import MILLI, Resources, check_number, check_priority

_SHAPE = re.compile(r"(?P<name>[a-z-]+)(?::(?P<model>[^=]+))?=(?P<rest>.+)", re.DOTALL)
_CHANGE = re.compile(r"(?P<how>[x+-]?)(?P<amount>[0-9.eE]+[0-9.eE+-]*)(?P<unit>[kKMGT]i?B)?")
_UNITS = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "kiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_OF_THE_CLUSTER = ("cpu", "memory", "gpu", "cluster")


@dataclass(frozen=True, slots=True)
class Change:
    """A number that becomes another one: ``x2`` times, ``+3`` or ``-3`` more or less, ``3`` itself.

    Examples
    --------
    >>> [Change.parse(text).of(10.0) for text in ("x2", "+3", "-3", "3", "x0.5", "2KiB", "-20")]
    [20.0, 13.0, 7.0, 3.0, 5.0, 2048.0, 0.0]
    """

    how: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Change:
        """Read it; `InvalidValue` for anything else."""
        found = _CHANGE.fullmatch(text.strip())
        if found is None:
            raise InvalidValue(
                "change", text, "x2 (times), +3, -3, or a number, perhaps of kB, MB, GB, KiB, MiB or GiB"
            )
        amount = check_number("change", found["amount"], minimum=0) * _UNITS.get(found["unit"] or "", 1)
        return cls(found["how"], amount)

    def of(self, value: float) -> float:
        """Return what `value` becomes, never below 0."""
        match self.how:
            case "x":
                return value * self.amount
            case "+":
                return value + self.amount
            case "-":
                return max(0.0, value - self.amount)
        return self.amount


def suppose(snapshot: Snapshot, hypotheses: Sequence[str]) -> Snapshot:
    """Return the snapshot as it would be.

    Parameters
    ----------
    snapshot : Snapshot
        As it is.
    hypotheses : sequence of str
        In turn: ``NAME=CHANGE`` for every model or the cluster, ``NAME:MODEL=CHANGE`` for one model.  Names are
        ``demand`` (requests a second: those that came and those forecast), ``queued``, ``service`` (seconds of a
        replica for each request), ``cold-start`` (seconds), ``objective`` (seconds), ``priority``;
        ``cpu`` (cores), ``memory`` (bytes), ``gpu`` (devices) or ``cluster`` (all three: ``cluster=x2``).
        ``add:NEW=MODEL`` puts a model beside the others that is as `MODEL` is, with nothing reserved for it;
        ``without=MODEL`` takes one out.

    Returns
    -------
    Snapshot
        The other one; `snapshot` is as it was.

    Raises
    ------
    InvalidValue
        A hypothesis that can't be read, or that makes no sense.
    UnknownId
        A model that is not there.
    Conflict
        ``add`` of a model that is there.

    Examples
    --------
    >>> seen = Snapshot(1, 60.0, models=(ModelState("whisper", arrivals=(4.0, 4.0), queued=3),))
    >>> other = suppose(seen, ["demand=x2", "queued:whisper=0", "cpu=+8", "add:second=whisper"])
    >>> [(model.model_id, model.arrivals, model.queued) for model in other.models], other.total.cpu
    ([('whisper', (8.0, 8.0), 0), ('second', (8.0, 8.0), 0)], 8.0)
    """
    for hypothesis in hypotheses:
        snapshot = _changed(snapshot, hypothesis)
    return snapshot


def _changed(snapshot: Snapshot, hypothesis: str) -> Snapshot:
    found = _SHAPE.fullmatch(hypothesis.strip())
    if found is None:
        raise InvalidValue("hypothesis", hypothesis, "NAME=CHANGE or NAME:MODEL=CHANGE, as in demand:whisper=x2")
    name, model_id, rest = found["name"], found["model"], found["rest"].strip()
    if name == "without":
        gone = _model(snapshot, rest).model_id
        return replace(snapshot, models=tuple(model for model in snapshot.models if model.model_id != gone))
    if name == "add":
        return _with(snapshot, model_id or f"another {rest}", _model(snapshot, rest))
    if name in _OF_THE_CLUSTER:
        if model_id is not None:
            raise InvalidValue("hypothesis", hypothesis, f"{name}=CHANGE: that is the cluster's, not a model's")
        return _larger(snapshot, name, Change.parse(rest))
    if name not in _OF_A_MODEL:
        known = ", ".join((*_OF_A_MODEL, *_OF_THE_CLUSTER, "add", "without"))
        raise InvalidValue("hypothesis", hypothesis, f"one of {known} before the =")
    change = Change.parse(rest)
    chosen = None if model_id is None else _model(snapshot, model_id).model_id
    models = tuple(
        _OF_A_MODEL[name](model, change) if chosen in {None, model.model_id} else model for model in snapshot.models
    )
    return replace(snapshot, models=models)


def _model(snapshot: Snapshot, model_id: str) -> ModelState:
    found = snapshot.model(model_id)
    if found is None:
        raise UnknownId("model", model_id, [model.model_id for model in snapshot.models])
    return found


def _with(snapshot: Snapshot, model_id: str, like: ModelState) -> Snapshot:
    if snapshot.model(model_id) is not None:
        raise Conflict("a model of that id is there already", model_id=model_id)
    fresh = replace(
        like, model_id=model_id, replicas=0, parallelism=1, queued=0, running=0, oldest_wait_s=0.0, boosted_to=None
    )
    return replace(snapshot, models=(*snapshot.models, fresh))


def _larger(snapshot: Snapshot, name: str, change: Change) -> Snapshot:
    """Change what the cluster has; what is held of it stays, so what is free changes by as much."""
    if name == "cluster" and change.how != "x":
        raise InvalidValue("cluster", f"{change.how}{change.amount:g}", "a factor, as in cluster=x2")
    has = snapshot.total
    total = Resources(
        int(change.of(has.cpu) * MILLI) if name in {"cpu", "cluster"} else has.cpu_milli,
        int(change.of(has.memory_bytes)) if name in {"memory", "cluster"} else has.memory_bytes,
        int(change.of(has.gpu) * MILLI) if name in {"gpu", "cluster"} else has.gpu_milli,
        has.custom,
    )
    return replace(snapshot, total=total, free=snapshot.free + (total - has))


def _demand(model: ModelState, change: Change) -> ModelState:
    def rates(counts: tuple[float, ...], step_s: float) -> tuple[float, ...]:
        return tuple(change.of(count / step_s) * step_s for count in counts)

    made = model.forecast
    if made is not None:
        middle = rates(made.q50, made.step_s)
        # How sure the forecast is, in relation to its middle, stays as it is.
        around = [new / old if old > 0 else 1.0 for new, old in zip(middle, made.q50, strict=True)]
        low = tuple(min(value * k, mid) for value, k, mid in zip(made.q10, around, middle, strict=True))
        high = tuple(max(value * k, mid) for value, k, mid in zip(made.q90, around, middle, strict=True))
        made = DemandForecast(made.made_at, made.step_s, low, middle, high, made.method, made.status)
    return replace(model, arrivals=rates(model.arrivals, model.step_s), forecast=made)


def _service(model: ModelState, change: Change) -> ModelState:
    mean = change.of(model.service_s or 0.0)
    p90 = model.service_p90_s
    if p90 is not None and model.service_s:
        p90 *= mean / model.service_s
    return replace(model, service_s=mean, service_p90_s=p90)


def _queued(model: ModelState, change: Change) -> ModelState:
    queued = round(change.of(model.queued))
    return replace(model, queued=queued, oldest_wait_s=model.oldest_wait_s if queued else 0.0)


#: What of a model can be changed, and how.
_OF_A_MODEL: dict[str, Callable[[ModelState, Change], ModelState]] = {
    "demand": _demand,
    "queued": _queued,
    "service": _service,
    "cold-start": lambda model, change: replace(model, cold_start_s=change.of(model.cold_start_s)),
    "objective": lambda model, change: replace(model, objective_s=change.of(model.objective_s)),
    "priority": lambda model, change: replace(model, priority=check_priority(round(change.of(model.priority)))),
}


def differences(before: Plan, after: Plan) -> list[str]:
    """Return in sentences what a plan decides otherwise than another one; empty where all is the same.

    Examples
    --------
    >>> from balance.planning import Memory, PlanPolicy, plan
    >>> model = ModelState("whisper", demand=Resources.demand(cpu=1), objective_s=5.0, service_s=0.5,
    ...                    arrivals=(4.0,) * 60)
    >>> seen = Snapshot(1, 60.0, Resources.capacity(cpu=8), Resources.capacity(cpu=8), (model,))
    >>> plans = [plan(each, Memory(), PlanPolicy()) for each in (seen, suppose(seen, ["demand=x2"]))]
    >>> differences(*plans)
    ['whisper would want 5 replicas instead of 3, and get 5 instead of 3.']
    """
    old = {decision.outlook.model_id: decision for decision in before.decisions}
    new = {decision.outlook.model_id: decision for decision in after.decisions}
    said = [
        f"{name} would not be there; its {old[name].granted} replicas would be free." for name in old if name not in new
    ]
    for name, decision in new.items():
        said += [_other(old[name], decision)] if name in old else [_newcomer(decision)]
    if before.contended != after.contended:
        said.append(
            "There would no longer be room for all that the models want."
            if after.contended
            else "There would be room for all that the models want."
        )
    return [sentence for sentence in said if sentence]


def _other(old: Decision, new: Decision) -> str:
    parts = [
        f"{verb} {after} {noun}instead of {before}"
        for verb, noun, before, after in (
            ("want", "replicas ", old.outlook.wanted, new.outlook.wanted),
            ("get", "", old.granted, new.granted),
            ("run up to", "batches at once ", old.parallelism, new.parallelism),
        )
        if before != after
    ]
    return f"{new.outlook.model_id} would {', and '.join(parts)}." if parts else ""


def _newcomer(decision: Decision) -> str:
    outlook = decision.outlook
    return f"{outlook.model_id} would want {outlook.wanted} replicas and get {decision.granted}."
