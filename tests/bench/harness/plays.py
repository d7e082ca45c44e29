"""How a peer lets one way of deciding after the other live through the same load, each with a model of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.drive import EVERY_S, Drive, arrivals, drive

PAST = 10
"""How many periods have been recorded when a play begins."""

LEAD_IN_S = 7
"""For so long requests come before anything counts, as at the end of a period: the model's run time gets known."""

PATIENCE_S = 60.0


def day(period_s: int, *, low: float, high: float, rise: float, fall: float) -> list[float]:
    """Return the requests a second in each second of a period: few, many between two parts of it, few.

    Examples
    --------
    >>> day(10, low=1.0, high=5.0, rise=0.4, fall=0.6)
    [1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 1.0, 1.0, 1.0, 1.0]
    """
    return [high if rise <= second / period_s < fall else low for second in range(period_s)]


class Stage:
    """Balance's actors on the cluster that this process is connected to.

    Parameters
    ----------
    ray : module
        Ray, connected.
    given : dict
        The fields of `harness.periods.Given`.
    """

    def __init__(self, ray: Any, given: dict[str, Any]) -> None:
        self._ray = ray
        self._given = given

    def ask(self, role: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call an actor's method and return the answer."""
        actor = self._ray.get_actor(role, namespace="balance")
        return self._ray.get(getattr(actor, method).remote(*args, **kwargs), timeout=PATIENCE_S)

    def play(
        self,
        name: str,
        model: Any,
        rates: Sequence[float],
        *,
        objective_s: float,
        policy: dict[str, Any],
        look: Callable[[float], None],
    ) -> dict[str, Any]:
        """Let a model live through some time under a policy, and take it out of service.

        Parameters
        ----------
        name : str
            The model's.
        model : object
            As `deploy_model` takes it; a core for each replica.
        rates : sequence of float
            Requests a second in each second; the first period of them has been recorded `PAST` times before.
        objective_s : float
            A request misses when its answer takes longer.
        policy : dict
            Of the balancer; the season and the coverage are added.
        look : callable
            Called now and then with the seconds since it counts: negative ones at first.

        Returns
        -------
        dict
            ``sent``, ``missed``, ``failed``, ``latency_s``, and of the balancer ``cold_start_s`` (of this model),
            ``node_start_s`` and ``failures`` (of its actions meanwhile).
        """
        ask, period = self.ask, rates[: self._given["period_s"]]
        season, coverage = float(self._given["period_s"]), self._given["coverage"]
        ask("balancer", "set_policy", lend=False, season_s=season, coverage=coverage, **policy)
        ask("model_coordinator", "register_model", name, 1.0, 0, 2)
        failures = ask("balancer", "stats")["failures"]
        past, now = ([*period] * PAST)[:-LEAD_IN_S], int(time.time())
        ask("monitoring", "record", [(f"arrivals/{name}", float(now - len(past) + at), v) for at, v in enumerate(past)])
        ask("batches", "deploy_model", name, model, objective_s=objective_s, batch_max=1)
        moments = arrivals([*period[-LEAD_IN_S:], *rates], self._given["seed"])
        made: Drive = drive(self._ray, name, moments, lambda at: look(at - LEAD_IN_S), since=LEAD_IN_S)
        stats = ask("balancer", "stats")
        self.leave(name)
        return {
            "sent": made.sent,
            "missed": made.missed(objective_s),
            "failed": made.failed,
            "latency_s": made.latency_s,
            "cold_start_s": stats["cold_start_s"].get(name),
            "node_start_s": stats["node_start_s"],
            "failures": stats["failures"] - failures,
        }

    def leave(self, name: str) -> None:
        """Take a model out of service and wait until the balancer has given back what it had."""
        self.ask("batches", "undeploy_model", name)
        self.until(lambda: self.ask("model_coordinator", "get_model_status", name)["state"] == "registered")

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        """Wait until a condition is true; `RuntimeError` after a minute."""
        until = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > until:
                raise RuntimeError(f"not within {PATIENCE_S:g} s")
            time.sleep(EVERY_S)
