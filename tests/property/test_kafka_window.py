"""The window between a Kafka consumer and its reader: whatever is asked for and when, no record is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balance.messaging.broker import Record
from balance.messaging.kafka.window import Window


class Partition:
    """A partition with gaps, its consumer, and the window: what the member's thread does, one step at a time."""

    def __init__(self, offsets: list[int], committed: int) -> None:
        self.records = [Record(0, offset, None, b"x", {}, 0.0) for offset in offsets]
        self.window = Window()
        self.fetched_to = 0  # before it is told, the consumer fetches from anywhere
        self.window.begin(committed)

    def rewind(self) -> None:
        if self.window.is_rewinding:
            self.fetched_to = self.window.start
            self.window.is_rewinding = False

    def fetch(self, count: int) -> None:
        for record in [r for r in self.records if r.offset >= self.fetched_to][:count]:
            self.fetched_to = record.offset + 1
            self.window.add(record)

    def ask(self, position: int, most: int) -> list[Record]:
        found = self.window.read(position, most)
        if found is None:
            self.window.rewind(position)
        return found or []

    def from_(self, position: int) -> list[Record]:
        return [record for record in self.records if record.offset >= position]


STEPS = st.lists(
    st.one_of(
        st.just(("rewind",)),
        st.tuples(st.just("fetch"), st.integers(1, 5)),
        st.tuples(st.just("ask"), st.integers(-6, 0), st.integers(1, 5)),
    ),
    max_size=60,
)


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(0, 10), STEPS)
def test_an_answer_has_no_gaps(offsets: set[int], committed: int, steps: list[tuple[str, int]]) -> None:
    """Safety: what a reader gets is what follows the place it asked for, from there on, whatever it asked before.

    Liveness: once fetching goes on, a reader that goes on reaches the end.
    """
    partition = Partition(sorted(offsets), committed)
    position = committed
    for name, *numbers in steps:
        if name == "rewind":
            partition.rewind()
        elif name == "fetch":
            partition.fetch(numbers[0])
        else:  # from where it is, or from a few places back, as after an answer that was lost
            back, most = numbers
            asked = max(position + back, 0)
            records = partition.ask(asked, most)
            assert records == partition.from_(asked)[: len(records)]
            position = records[-1].offset + 1 if records else asked
    seen = position
    for _ in range(len(offsets) + 1):
        partition.ask(seen, 3)
        partition.rewind()
        partition.fetch(3)
        records = partition.ask(seen, 3)
        assert records == partition.from_(seen)[: len(records)]
        seen = records[-1].offset + 1 if records else seen
    assert not partition.from_(seen)
