"""Which models there are, what each needs, and what each holds.

A model is registered once with what one replica of it needs.  Resources are allocated to it through the
`ResourceAllocator`, as a reservation that belongs to the model until it is released.  Every call is
idempotent, so that a client that repeats a call after a lost answer changes nothing.

The class does not create reservations itself: it decides what to ask for and keeps what was answered.
In a plain process it asks its allocator at once; a shell that must not block asks on its own and calls
`held`, `granted` and `released`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict

from balance.clock import Clock, iso
from balance.core.coordinator.ports import Journal
from balance.defaults import default
from balance.errors import Conflict, UnknownId
from balance.types import Resources, check_id, check_priority

if TYPE_CHECKING:
    from balance.core.scheduler import ResourceAllocator

_COLLECTION = "models"


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model.

    Attributes
    ----------
    model_id : str
        Its id.
    demand : Resources
        What one replica needs.
    priority : int
        Of its work.
    registered_at : float
        POSIX seconds.
    allocation : mapping or None
        What the allocator answered while resources are held.
    denied : mapping or None
        What the allocator answered when it last refused.
    """

    model_id: str
    demand: Resources
    priority: int
    registered_at: float
    allocation: Mapping[str, Any] | None = None
    denied: Mapping[str, Any] | None = None

    def to_dict(self) -> Dict[str, Any]:
        """Return the model as JSON values.

        Returns
        -------
        dict
            ``model_id``, ``state`` (``registered | allocated | denied``), ``demand`` (``cpu`` cores,
            ``memory`` bytes, ``gpu`` devices), ``priority``, ``registered_at`` (ISO 8601),
            ``allocation`` and ``denied`` (the allocator's last answers, or None).
        """
        state = "allocated" if self.allocation else "denied" if self.denied else "registered"
        return {
            "model_id": self.model_id,
            "state": state,
            "demand": self.demand.to_dict(),
            "priority": self.priority,
            "registered_at": iso(self.registered_at),
            "allocation": dict(self.allocation) if self.allocation else None,
            "denied": dict(self.denied) if self.denied else None,
        }

    def for_journal(self) -> Dict[str, Any]:
        """Return what `from_journal` reads."""
        return {**self.to_dict(), "registered_at": self.registered_at}

    @classmethod
    def from_journal(cls, body: Mapping[str, Any]) -> ModelRecord:
        """Read back what `for_journal` returned."""
        return cls(
            body["model_id"],
            Resources.from_dict(body["demand"]),
            body["priority"],
            body["registered_at"],
            body["allocation"],
            body["denied"],
        )


class ModelCoordinator:
    """Register models, give them resources and take the resources back.

    Parameters
    ----------
    allocator : ResourceAllocator, optional
        Who grants resources; one over this host when left out, built when first needed.
    clock : Clock, optional
        Dates the records.
    journal : Journal, optional
        Where models are remembered; nowhere where left out.

    Examples
    --------
    >>> models = ModelCoordinator()
    >>> models.register_model("whisper", cpu_demand=0.5, memory_demand=2**20, priority=2)
    >>> models.allocate_resources_for_model("whisper")["status"]
    'allocated'
    >>> models.get_model_status("whisper")["state"]
    'allocated'
    >>> models.release_resources("whisper")
    """

    def __init__(
        self,
        *,
        allocator: ResourceAllocator | None = None,
        clock: Clock | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._allocator = allocator
        self._clock: Clock = clock or default("clock")
        self._journal = journal
        self._models = (
            {key: ModelRecord.from_journal(body) for key, body in journal.scan(_COLLECTION)} if journal else {}
        )

    @property
    def allocator(self) -> ResourceAllocator:
        """The allocator that is asked."""
        if self._allocator is None:
            from balance.core.scheduler import ResourceAllocator  # noqa: PLC0415 (only when one is needed)

            self._allocator = ResourceAllocator(clock=self._clock)
        return self._allocator

    def register_model(self, model_id: str, cpu_demand: float, memory_demand: float, priority: int = 1) -> None:
        """Make a model known.

        Parameters
        ----------
        model_id : str
            Its id.
        cpu_demand : float
            Cores that one replica needs.
        memory_demand : float
            Bytes that one replica needs.
        priority : int, default 1
            Of the model's work, 1 is the most urgent.

        Raises
        ------
        InvalidValue
            An empty id, a negative or NaN demand, a priority below 1.
        Conflict
            The id is registered with another demand or priority; `update_model` changes a model.
        """
        record = ModelRecord(
            check_id("model_id", model_id),
            Resources.demand(cpu_demand, memory_demand),
            check_priority(priority),
            self._clock.wall(),
        )
        known = self._models.get(model_id)
        if known is None:
            self._keep(record)
        elif (known.demand, known.priority) != (record.demand, record.priority):
            raise Conflict(
                f"model {model_id!r} is registered with {known.demand.to_dict()} at priority {known.priority}; "
                "use update_model to change it",
                model_id=model_id,
                demand=known.demand.to_dict(),
                priority=known.priority,
            )

    def update_model(
        self,
        model_id: str,
        *,
        cpu_demand: float | None = None,
        memory_demand: float | None = None,
        gpu_demand: float | None = None,
        priority: int | None = None,
    ) -> Dict[str, Any]:
        """Change what a model needs; what it holds stays until it is released and allocated again.

        Returns
        -------
        dict
            As `get_model_status`.

        Raises
        ------
        UnknownId
            No such model.
        InvalidValue
            A demand or priority that can't be.
        """
        known = self.record(model_id)
        demand = Resources.demand(
            known.demand.cpu if cpu_demand is None else cpu_demand,
            known.demand.memory_bytes if memory_demand is None else memory_demand,
            known.demand.gpu if gpu_demand is None else gpu_demand,
        )
        chosen = known.priority if priority is None else check_priority(priority)
        return self._keep(replace(known, demand=demand, priority=chosen)).to_dict()

    def allocate_resources_for_model(self, model_id: str) -> Dict[str, Any]:
        """Reserve what one replica of the model needs.

        Returns
        -------
        dict
            The allocator's answer: ``status`` ``allocated`` with an ``allocation_id``, or ``denied``
            with the ``reason``.  A model that holds an allocation gets the same one again.

        Raises
        ------
        UnknownId
            No such model.
        """
        held = self.held(model_id)
        if held is not None:
            return held
        demand = self.record(model_id).demand
        return self.granted(model_id, self.allocator.allocate_resources(demand.cpu, demand.memory_bytes, demand.gpu))

    def get_model_status(self, model_id: str) -> Dict[str, Any]:
        """Return what is known of a model.

        Returns
        -------
        dict
            As `ModelRecord.to_dict`.

        Raises
        ------
        UnknownId
            No such model.
        """
        return self.record(model_id).to_dict()

    def release_resources(self, model_id: str) -> None:
        """Give back what the model holds; nothing happens if it holds nothing.

        Raises
        ------
        UnknownId
            No such model.
        """
        held = self.held(model_id)
        if held is not None:
            self.allocator.release_allocation(held["allocation_id"])
        self.released(model_id)

    def list_models(self) -> list[Dict[str, Any]]:
        """Return every model, by id, as `get_model_status` does."""
        return [self._models[model_id].to_dict() for model_id in sorted(self._models)]

    def remove_model(self, model_id: str) -> None:
        """Forget a model that holds nothing; `Conflict` while it holds resources."""
        if self.held(model_id) is not None:
            raise Conflict(f"model {model_id!r} still holds resources; call release_resources first", model_id=model_id)
        if self._journal:
            self._journal.delete(_COLLECTION, model_id)
        del self._models[model_id]

    def record(self, model_id: str) -> ModelRecord:
        """Return the record of a model; `UnknownId` if there is none."""
        known = self._models.get(check_id("model_id", model_id))
        if known is None:
            raise UnknownId("model", model_id, self._models)
        return known

    def held(self, model_id: str) -> Dict[str, Any] | None:
        """Return the allocation that the model holds, or None."""
        allocation = self.record(model_id).allocation
        return dict(allocation) if allocation else None

    def granted(self, model_id: str, answer: Mapping[str, Any]) -> Dict[str, Any]:
        """Keep what the allocator answered for the model, and return it.

        A refusal may come with what is ``held`` all the same: the part of a reservation that there was room for.
        """
        known = self.record(model_id)
        if answer.get("status") == "allocated":
            self._keep(replace(known, allocation=dict(answer), denied=None))
        else:
            self._keep(replace(known, allocation=answer.get("held"), denied=dict(answer)))
        return dict(answer)

    def released(self, model_id: str) -> None:
        """Note that the model holds nothing any more."""
        known = self.record(model_id)
        if known.allocation or known.denied:
            self._keep(replace(known, allocation=None, denied=None))

    def _keep(self, record: ModelRecord) -> ModelRecord:
        if self._journal:
            self._journal.put(_COLLECTION, record.model_id, record.for_journal())
        self._models[record.model_id] = record
        return record
