"""Say how unusual the newest value of a series is, as it comes in, without labels and without a model.

The newest few values are compared with every earlier stretch of the same length; the distance to the most
similar one is the novelty.  What counts as much is learnt from the series itself: the score sets the novelty
against the 20th largest of the past ones, so that a series that is always wild needs more to stand out.
After an alarm the scorer is quiet for a while: one event, one alarm.

Source: nearest-neighbour novelty after V. Chandola et al., "Anomaly detection: a survey", 2009 (section 5); the
calibration and the quiet time are what mattered most on the Numenta Anomaly Benchmark.  There are four parameters and
no more: ensembles that were searched on half of the benchmark's files lost on the other half.

The score of a value depends on it and earlier ones only.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Dict

import numpy as np

from balance.errors import InvalidValue
from balance.timeseries.series import LARGEST
from balance.types import check_int


@dataclass(frozen=True, slots=True)
class AnomalyScore:
    """How unusual one value is.

    Attributes
    ----------
    status : str
        ``scored``; ``learning``: too little is known yet; ``quiet``: an alarm was raised a short while ago;
        ``gap``: the value was NaN, infinite or absurd and is left out.
    score : float
        0 to 1; 0.5 is as novel as the 20th most novel moment known, 1 without any likeness.  0 unless ``scored``.
    is_anomaly : bool
        Whether this value raises the alarm: the first score above 0.5.
    novelty : float
        Distance to the most similar earlier stretch, in the series' unit.
    usual_novelty : float
        The novelty that makes a score of 0.5.
    """

    status: str
    score: float = 0.0
    is_anomaly: bool = False
    novelty: float = 0.0
    usual_novelty: float = 0.0

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class AnomalyScorer:
    """Score one series, value by value.

    Parameters
    ----------
    window : int, default 3
        Values that are compared together.
    rank : int, default 20
        Against the how-manieth largest past novelty a new one is set.
    quiet : int, default 100
        Values after an alarm in which no other is raised.
    memory : int, default 4096
        Values that are remembered.

    Notes
    -----
    O(memory) a value: about 0.1 ms once the memory is full.  Numenta Anomaly Benchmark, 33 files of
    it, standard profile, the fixed threshold of 0.5: 68 of 100 (Numenta's own detector has 72 on the same files
    with the threshold that suits it best).

    Examples
    --------
    >>> scorer = AnomalyScorer()
    >>> calm = [scorer.update(50 + 10 * math.sin(i / 5)) for i in range(400)]
    >>> any(one.is_anomaly for one in calm[200:])
    False
    >>> scorer.update(140.0).is_anomaly
    True
    """

    def __init__(self, *, window: int = 3, rank: int = 20, quiet: int = 100, memory: int = 4096) -> None:
        self._window = check_int("window", window, minimum=1)
        self._rank = check_int("rank", rank, minimum=1)
        self._quiet = check_int("quiet", quiet, minimum=0)
        self._memory = check_int("memory", memory, minimum=4 * (window + rank))
        self._values = _Recent(self._memory)
        self._novelties = _Recent(self._memory)
        self._quiet_left = 0

    def update(self, value: float) -> AnomalyScore:
        """Take in the next value and score it; `InvalidValue` for something that is no number."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InvalidValue("value", value, "a number") from None
        if not math.isfinite(number) or abs(number) > LARGEST:
            return AnomalyScore("gap")
        self._values.append(number)
        novelty = self._novelty()
        if novelty is None:
            return AnomalyScore("learning")
        past = self._novelties.array()
        usual = float(np.partition(past, -self._rank)[-self._rank]) if len(past) >= 2 * self._rank else None
        self._novelties.append(novelty)
        return AnomalyScore("learning", novelty=novelty) if usual is None else self._judge(novelty, usual)

    def _novelty(self) -> float | None:
        """Return the distance from the newest stretch to the nearest one that shares no value with it."""
        values, width = self._values.array(), self._window
        if len(values) < 2 * width:
            return None
        n = len(values) - 2 * width + 1
        squares = np.zeros(n)
        for place in range(width):
            # One subtraction a place of the stretch is ten times as fast as a matrix of stretches.
            squares += (values[place : place + n] - values[place - width]) ** 2
        return math.sqrt(float(squares.min()))

    def _judge(self, novelty: float, usual: float) -> AnomalyScore:
        if self._quiet_left:
            self._quiet_left -= 1
            return AnomalyScore("quiet", novelty=novelty, usual_novelty=usual)
        # Rounding is no news: a flat line may tremble in its last digits.
        floor = 1e-9 * float(np.abs(self._values.array()[-self._window :]).max())
        score = novelty / (novelty + usual) if novelty > floor else 0.0
        alarm = score > 0.5
        if alarm:
            self._quiet_left = self._quiet
        return AnomalyScore("scored", score, alarm, novelty, usual)

    def snapshot(self) -> Dict[str, Any]:
        """Return the state as JSON values: ``values``, ``novelties``, ``quiet_left``."""
        return {
            "values": self._values.array().tolist(),
            "novelties": self._novelties.array().tolist(),
            "quiet_left": self._quiet_left,
        }

    def restore(self, state: Dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._values, self._novelties = _Recent(self._memory), _Recent(self._memory)
        for value in state["values"]:
            self._values.append(value)
        for novelty in state["novelties"]:
            self._novelties.append(novelty)
        self._quiet_left = int(state["quiet_left"])


class _Recent:
    """The newest `size` numbers as one contiguous array; appending is amortised O(1)."""

    __slots__ = ("_data", "_end", "_size")

    def __init__(self, size: int) -> None:
        self._data = np.zeros(2 * size)
        self._size, self._end = size, 0

    def append(self, value: float) -> None:
        if self._end == len(self._data):
            self._data[: self._size] = self._data[-self._size :]
            self._end = self._size
        self._data[self._end] = value
        self._end += 1

    def array(self) -> np.ndarray:
        return self._data[max(0, self._end - self._size) : self._end]
