"""Seeded shapes of demand that differ in what can be foreseen about them; each is in arbitrary units."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Array = NDArray[np.float64]

STEP_S = 15.0
DAY = round(86_400 / STEP_S)


def world_cup(file: Path, days: int, until: int | None = None) -> Array:
    """Return the last days of a trace of counts per minute, each spread over its four steps."""
    with file.open(newline="", encoding="utf-8") as handle:
        counts = np.array([float(row["requests"]) for row in csv.DictReader(handle)])
    last = len(counts) if until is None else until * 1440
    return np.repeat(counts[max(0, last - days * 1440) : last], round(60 / STEP_S))


def daily(steps: int, rng: np.random.Generator, swing: float = 0.5, noise: float = 0.05) -> Array:
    """Return days with two waves and noise that lasts a quarter of an hour or so."""
    at = np.arange(steps) * 2 * np.pi / DAY
    shape = 1 + swing * np.sin(at - 1.5) + 0.2 * swing * np.sin(2 * at)
    return shape * np.exp(lfilter([noise * np.sqrt(1 - 0.98**2)], [1, -0.98], rng.normal(size=steps)))


def regime_shift(days: int, seed: int) -> Array:
    """Return days whose level jumps to another one every two days or so."""
    rng = np.random.default_rng(seed)
    demand, at = daily(days * DAY, rng), 0
    while at < len(demand):
        lasts = int(rng.exponential(2 * DAY)) + 1000
        demand[at : at + lasts] *= np.exp(rng.normal(0, 0.5))
        at += lasts
    return demand


def random_walk(days: int, seed: int, step: float = 0.006) -> Array:
    """Return a level whose logarithm walks at random: the best forecast is the last value."""
    rng = np.random.default_rng(seed)
    return np.exp(lfilter([1], [1, -0.99995], rng.normal(0, step, days * DAY)))


def flash_crowd(days: int, seed: int) -> Array:
    """Return days with a crowd every other one: up within two minutes to half an hour, gone after an hour or two."""
    rng = np.random.default_rng(seed)
    demand = daily(days * DAY, rng)
    for begin in rng.integers(DAY, len(demand), days // 2):
        rise, fall, height = rng.uniform(8, 120), rng.uniform(120, 480), rng.uniform(0.5, 3)
        after = np.arange(len(demand) - begin)
        demand[begin:] += height * np.minimum(after / rise, 1) * np.exp(-np.maximum(after - rise, 0) / fall)
    return demand
