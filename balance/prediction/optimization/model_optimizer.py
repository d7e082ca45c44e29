"""Decide what to do with a model's forecasting methods, by how they have done: online, with hysteresis.

A method that loses to the simple rival is demoted: not used, but judged on, and taken back when it wins again.
Two marks, one to fall below and one to rise above, keep a method at the edge from flapping.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List

from balance.errors import InvalidValue
from balance.types import check_id, check_int, check_number

#: Methods within this multiple of the best one's error are as good as it, and are combined.
AS_GOOD = 1.1
#: A bias has to be as unlikely as this by chance: it is looked for again and again.
_BIASED = 0.001


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one model; see `ModelOptimizer.optimize_model` for the fields."""

    model_id: str
    status: str
    action: str
    method: str
    weights: Dict[str, float]
    demoted: List[str]
    taken_back: List[str]
    ratios: Dict[str, float]
    reason: str

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Known:
    """What is remembered of one model."""

    method: str
    weights: Dict[str, float]
    demoted: List[str] = field(default_factory=list)
    #: How many steps were scored when the method was changed last, and when it was refitted last.
    changed_at: int = 0
    refit_at: int = -1
    #: Whether the drift that is told of has led to a refit already.
    answered: bool = False

    def use(self, weights: Dict[str, float], total: int) -> None:
        """Change what is used, after `total` scored steps."""
        self.weights = weights
        self.method = "+".join(sorted(weights, key=lambda name: (-weights[name], name)))
        self.changed_at = total


@dataclass(frozen=True, slots=True)
class _Case:
    """One question: what is known, each judged method's error over the rival's, the rival, and what is out of date."""

    known: _Known
    judged: Dict[str, float]
    simple: str
    total: int
    stale: str
    drifting: bool


class ModelOptimizer:
    """Keep, refit, replace, combine, demote or take back a model's methods.

    Parameters
    ----------
    min_evidence : int, default 30
        Scored steps that a method must have before it is judged, and that lie between two changes.
    demote_at, take_back_at : float, default 1.05, 0.95
        A method's error over the simple rival's at which it is demoted, and taken back.
    replace_at : float, default 0.9
        How much smaller another method's error has to be for a change to pay.
    max_models : int, default 2000
        Models that are remembered; the one asked about longest ago is forgotten first.

    Examples
    --------
    >>> optimizer = ModelOptimizer()
    >>> bad = {"method": "drift", "simple": "naive", "total_scored": 50,
    ...        "by_method": {"drift": {"mae": 3.0, "simple_mae": 2.0, "scored": 50}}}
    >>> verdict = optimizer.optimize_model("whisper", bad)
    >>> verdict["action"], verdict["method"], verdict["demoted"]
    ('demote', 'naive', ['drift'])
    >>> good = {**bad, "by_method": {"drift": {"mae": 1.0, "simple_mae": 2.0, "scored": 90}}, "total_scored": 90}
    >>> verdict = optimizer.optimize_model("whisper", good)
    >>> verdict["action"], verdict["method"]
    ('take_back', 'drift')
    """

    def __init__(
        self,
        *,
        min_evidence: int = 30,
        demote_at: float = 1.05,
        take_back_at: float = 0.95,
        replace_at: float = 0.9,
        max_models: int = 2000,
    ) -> None:
        self._min_evidence = check_int("min_evidence", min_evidence, minimum=1)
        self._take_back_at = check_number("take_back_at", take_back_at, minimum=0)
        self._demote_at = check_number("demote_at", demote_at, minimum=self._take_back_at)
        self._replace_at = check_number("replace_at", replace_at, minimum=0, maximum=1)
        self._max_models = check_int("max_models", max_models, minimum=1)
        self._models: OrderedDict[str, _Known] = OrderedDict()

    def optimize_model(self, model_id: str, accuracy_data: dict) -> dict:  # type: ignore[type-arg]  # the contract's
        """Say what to do about a model's forecasts.

        Parameters
        ----------
        model_id : str
            The model.
        accuracy_data : dict
            What `AccuracyMonitor.monitor_accuracy` returned.  Needed: ``by_method``, by name ``mae``, ``simple_mae``
            (the simple rival's error on the same steps) and ``scored``; ``method``: which is in use.  Optional:
            ``simple`` (the rival's name), ``total_scored``, ``drift``, ``bias``, ``mae``.  To be taken back, a demoted
            method has to be forecast with and scored on (``predicted_data["methods"]``).

        Returns
        -------
        dict
            ``model_id``; ``status``: ``ok`` or ``insufficient_data`` (no method has evidence enough: keep);
            ``action``: ``keep``; ``demote`` (what is in use loses to the rival); ``take_back`` (a demoted method wins
            and is used again); ``replace`` (another one is better by a tenth); ``combine`` (several are, and are as
            good as each other); ``refit`` (errors have grown, or lean to one side: what was learnt is out of date);
            ``method``, ``weights``: what to use from now on (weights sum to 1);
            ``demoted``: all that are, sorted; ``taken_back``: by this call;
            ``ratios``: each judged method's error over the rival's; ``reason``: a sentence.

        Raises
        ------
        InvalidValue
            Data that is no dict, no ``by_method``, a negative error or one that is no number.

        Notes
        -----
        A rival that makes no error at all can't be beaten: any method that makes one is then demoted.
        """
        check_id("model_id", model_id)
        case = self._case(model_id, accuracy_data)
        known = case.known
        taken_back: list[str] = []
        if case.judged:
            status, ratios = "ok", {name: ratio for name, ratio in case.judged.items() if name != case.simple}
            taken_back = self._sort_out(known, ratios)
            action, reason = self._decide(case, taken_back)
        else:
            status, action, ratios = "insufficient_data", "keep", {}
            reason = f"no method of {model_id} has been scored on {self._min_evidence} steps yet"
        self._models[model_id] = known
        self._models.move_to_end(model_id)
        if len(self._models) > self._max_models:
            self._models.popitem(last=False)
        weights = dict(known.weights)
        made = Verdict(model_id, status, action, known.method, weights, list(known.demoted), taken_back, ratios, reason)
        return made.to_dict()

    def _case(self, model_id: str, data: Any) -> _Case:
        if not isinstance(data, Mapping) or not isinstance(data.get("by_method"), Mapping):
            raise InvalidValue("accuracy_data", data, "a dict with by_method, as monitor_accuracy returns")
        simple = str(data.get("simple") or "naive")
        judged = _judged(data["by_method"], self._min_evidence)
        total = check_int("total_scored", data.get("total_scored") or 0, minimum=0)
        known = self._models.get(model_id)
        if known is None:
            current = str(data.get("method") or simple)
            known = _Known(current, {current: 1.0})
        drifting = (data.get("drift") or {}).get("status") == "drifting"
        return _Case(known, judged, simple, total, _stale(data), drifting)

    def _refits(self, case: _Case) -> bool:
        """Say whether a refit is due: one for each drift, and one for a bias in as many steps as are evidence."""
        known = case.known
        due = not known.answered if case.drifting else case.total - known.refit_at >= self._min_evidence
        if due or known.refit_at < 0:
            known.refit_at, known.answered = case.total, case.drifting
            return True
        return False

    def _sort_out(self, known: _Known, ratios: Mapping[str, float]) -> list[str]:
        """Demote what loses to the rival, take back what wins again; return the latter."""
        demoted = set(known.demoted)
        taken_back = sorted(name for name in demoted if ratios.get(name, 1.0) < self._take_back_at)
        demoted -= set(taken_back)
        demoted |= {name for name, ratio in ratios.items() if ratio > self._demote_at}
        known.demoted = sorted(demoted)
        return taken_back

    def _decide(self, case: _Case, taken_back: list[str]) -> tuple[str, str]:
        """Choose the action, change what is used accordingly, and say why."""
        known, simple = case.known, case.simple
        known.answered = known.answered and case.drifting
        usable = {name: ratio for name, ratio in case.judged.items() if name not in known.demoted and name != simple}
        best = min(usable, key=lambda name: (usable[name], name), default=simple)
        using = sorted(known.weights)
        named = " and ".join(using)
        fallen = [name for name in using if name in known.demoted]
        if fallen:
            known.use({best: 1.0}, case.total)
            worst = max(case.judged.get(name, self._demote_at) for name in fallen)
            lost = f"{' and '.join(fallen)} makes {worst:.2f} times the error of {simple}"
            return "demote", f"{lost}: {best} is used until that is over"
        if using == [simple] and best != simple and (best in taken_back or usable[best] < self._take_back_at):
            known.use({best: 1.0}, case.total)
            return "take_back", f"{best} makes {usable[best]:.2f} times the error of {simple}: it is used again"
        if case.stale and self._refits(case):
            return "refit", case.stale
        held = [usable[name] for name in using if name in usable]
        settled = case.total - known.changed_at >= self._min_evidence
        if not (settled and held and usable[best] < self._replace_at * min(held)):
            return "keep", f"{named} is as good as what else there is"
        equals = {name: ratio for name, ratio in usable.items() if ratio <= AS_GOOD * usable[best] + 1e-12}
        shares = {name: ((usable[best] + 1e-9) / (ratio + 1e-9)) ** 2 for name, ratio in equals.items()}
        whole = sum(shares.values())
        known.use({name: shares[name] / whole for name in sorted(shares)}, case.total)
        error = f"{usable[best]:.2f} times the error of {simple}, {named} {min(held):.2f} times"
        if len(equals) > 1:
            return "combine", f"{' and '.join(sorted(equals))} are as good as each other: {error}"
        return "replace", f"{best} is better: {error}"

    def snapshot(self) -> Dict[str, Any]:
        """Return the state as JSON values: by model, what is used, what is demoted, and since when."""
        return {model_id: asdict(known) for model_id, known in self._models.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._models = OrderedDict((model_id, _Known(**saved)) for model_id, saved in state.items())


def _judged(by_method: Mapping[str, Any], min_evidence: int) -> Dict[str, float]:
    """Return each method's error over the rival's, where there is evidence enough."""
    judged = {}
    for name, figures in by_method.items():
        if not isinstance(figures, Mapping) or not {"mae", "simple_mae", "scored"} <= set(figures):
            raise InvalidValue("by_method", figures, "dicts with mae, simple_mae and scored")
        mae = check_number("mae", figures["mae"], minimum=0)
        simple_mae = check_number("simple_mae", figures["simple_mae"], minimum=0)
        if check_int("scored", figures["scored"], minimum=0) >= min_evidence:
            ratio = mae / simple_mae if simple_mae > 0 else 1.0 if mae == 0 else 1e9
            judged[check_id("method", name)] = min(ratio, 1e9)
    return judged


def _stale(data: Mapping[str, Any]) -> str:
    """Say why what was learnt is out of date, or nothing."""
    drift, bias, mae = data.get("drift") or {}, data.get("bias") or {}, data.get("mae") or 0.0
    if drift.get("status") == "drifting":
        return f"errors have grown since {drift.get('since_scored')} forecasts: what was learnt is out of date"
    if bias.get("p_value", 1.0) <= _BIASED and abs(bias["mean"]) > 0.5 * mae > 0:
        side = "high" if bias["mean"] > 0 else "low"
        return f"forecasts are too {side} by {abs(bias['mean']):.3g}, most of their error of {mae:.3g}"
    return ""
