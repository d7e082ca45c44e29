"""The tuner as a function of a history: what a scorer of request rates calls.

``forecast(history, h)`` takes equally spaced counts, oldest first, and returns the next `h`; nothing is kept
between calls, and nothing is known of a series but its values.
"""

from __future__ import annotations

import numpy as np

from balance.prediction.optimization import PredictionTuner


def forecast(history: np.ndarray, h: int) -> np.ndarray:
    """Return the tuner's point forecast of the `h` steps after `history`."""
    made = PredictionTuner().tune_predictions("series", {"values": history, "horizon": h})
    return np.asarray(made["point"])
