"""The knobs of the scheduler, in one frozen record, and the tenants that share the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from balance.errors import Conflict, InvalidValue
from balance.types import Resources, check_id, check_int, check_number


@dataclass(frozen=True, slots=True)
class Tenant:
    """Someone who shares the cluster with others.

    Attributes
    ----------
    name : str
        As tasks name it in `TaskSpec.tenant`.
    weight : float
        The share of the cluster in relation to the others' weights.
    quota : Resources or None
        What is this tenant's before anything is lent: below it, it goes before tenants that borrow.
    limit : Resources or None
        What it never exceeds, however idle the cluster is.

    Examples
    --------
    >>> Tenant("research", weight=2.0, limit=Resources.capacity(cpu=8, memory=2**36, gpu=1)).weight
    2.0
    """

    name: str
    weight: float = 1.0
    quota: Resources | None = None
    limit: Resources | None = None

    def __post_init__(self) -> None:
        check_id("tenant", self.name)
        if check_number("weight", self.weight, minimum=0) == 0:
            raise InvalidValue("weight", self.weight, "more than 0")


def tenants_of(text: str) -> tuple[Tenant, ...]:
    """Read tenants written as ``name=weight,name=weight``; `InvalidValue` says what was expected.

    Examples
    --------
    >>> [(tenant.name, tenant.weight) for tenant in tenants_of("research=2, batch=1")]
    [('research', 2.0), ('batch', 1.0)]
    """
    found = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, equals, weight = (part.strip() for part in word.partition("="))
        if not (name and equals):
            raise InvalidValue("tenants", word, "name=weight, such as research=2,batch=1")
        found.append(Tenant(name, weight=check_number(f"the weight of {name}", weight, minimum=0)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """How the engine decides.

    Attributes
    ----------
    aging_step_s : float
        Seconds of waiting that weigh as much as one level of priority.
    tenants : tuple of Tenant
        Those with a weight, quota or limit of their own; any other name counts with weight 1.
    scan_max : int
        How many lines (tenant and shape) one decision looks at before it gives up.
    earmarks_max : int
        How many of the first tasks that do not fit have room kept for them at the same time.
    running_max : int
        How many tasks run at the same time, whatever they demand.
    history_max : int
        How many finished tasks are remembered.
    preemptions_max : int
        How often one task may be preempted before it is left alone.
    memory_growth : float
        The factor on a memory request after a kill for memory.
    refused_wait_s : float
        The first wait after a start was refused; it doubles up to `refused_wait_max_s`.
    chunk_s : float
        How many seconds of short tasks are handed out in one chunk, by their measured run time; 0 for no
        chunks.  A task that comes while one runs waits that much longer at most.
    chunk_max : int
        How many tasks one chunk has at most.

    Examples
    --------
    >>> SchedulingPolicy(aging_step_s=60.0).aging_step_s
    60.0
    """

    aging_step_s: float = 300.0
    tenants: tuple[Tenant, ...] = ()
    scan_max: int = 64
    earmarks_max: int = 4
    running_max: int = 100_000
    history_max: int = 10_000
    preemptions_max: int = 3
    memory_growth: float = 2.0
    refused_wait_s: float = 0.05
    refused_wait_max_s: float = 5.0
    chunk_s: float = 0.0
    chunk_max: int = 256

    def __post_init__(self) -> None:
        if check_number("aging_step_s", self.aging_step_s, minimum=0) == 0:
            raise InvalidValue("aging_step_s", self.aging_step_s, "more than 0 seconds")
        for name in ("scan_max", "running_max", "chunk_max"):
            check_int(name, getattr(self, name), minimum=1)
        for name in ("earmarks_max", "history_max", "preemptions_max"):
            check_int(name, getattr(self, name), minimum=0)
        check_number("memory_growth", self.memory_growth, minimum=1)
        check_number("chunk_s", self.chunk_s, minimum=0)
        check_number("refused_wait_s", self.refused_wait_s, minimum=0.001)
        check_number("refused_wait_max_s", self.refused_wait_max_s, minimum=self.refused_wait_s)
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) != len(names):
            raise Conflict(f"a tenant is named twice in {names}", tenants=names)
