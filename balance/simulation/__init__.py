"""The scheduler on a simulated clock and cluster: traces in, histories out."""

from balance.simulation.arrivals import Arrivals, at_once, bursty, diurnal, poisson
from balance.simulation.cluster import Change, Cluster
from balance.simulation.history import History
from balance.simulation.job import Job, merged
from balance.simulation.lengths import Hint, Lengths, constant, log_normal, no_hint, sampled, true_hint, wrong_hint
from balance.simulation.simulation import Simulation
from balance.simulation.stream import Stream
from balance.simulation.workers import Workers

__all__ = [
    "Arrivals",
    "Hint",
    "Lengths",
    "Change",
    "Cluster",
    "History",
    "Job",
    "Simulation",
    "Stream",
    "Workers",
    "at_once",
    "bursty",
    "constant",
    "diurnal",
    "log_normal",
    "merged",
    "no_hint",
    "poisson",
    "sampled",
    "true_hint",
    "wrong_hint",
]
