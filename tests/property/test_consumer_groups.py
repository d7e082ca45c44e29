"""Who owns which partition: safe and fair whatever members do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balance.messaging.groups import ConsumerGroup

_members = st.sampled_from("abcdef")
_steps = st.lists(st.tuples(st.sampled_from(["beat", "leave", "wait"]), _members), max_size=60)


@given(st.integers(1, 12), _steps)
def test_every_partition_has_exactly_one_owner(partitions, steps):
    """Safety: one owner each.  Liveness: while anyone is there, every partition is owned, and shares differ by at
    most one.  A change of owners always changes the generation.
    """
    group = ConsumerGroup(partitions, session_s=5.0)
    now = 0.0
    for step, member in steps:
        before = {m: group.assignment(m) for m in "abcdef"}
        generation = group.generation
        if step == "beat":
            group.beat(member, now)
        elif step == "leave":
            group.leave(member)
        else:
            now += 2.0
            group.expire(now)
        shares = {m: group.assignment(m) for m in "abcdef"}
        owned = sorted(p for share in shares.values() for p in share)
        assert owned == (list(range(partitions)) if group.members else [])
        sizes = [len(shares[m]) for m in group.members]
        assert not sizes or max(sizes) - min(sizes) <= 1
        assert all(not shares[m] for m in set("abcdef") - set(group.members))
        assert shares == before or group.generation != generation


@given(st.integers(1, 12), st.lists(_members, unique=True, min_size=1))
def test_a_newcomer_moves_as_little_as_possible(partitions, members):
    """Those who were there lose only what the newcomer gets, and that is no more than it has to be."""
    group = ConsumerGroup(partitions, session_s=5.0)
    for member in members:
        group.beat(member, 0.0)
    before = {m: set(group.assignment(m)) for m in members}
    group.beat("new", 0.0)
    got = set(group.assignment("new"))
    assert all(set(group.assignment(m)) == before[m] - got for m in members)
    assert len(got) == partitions // (len(members) + 1)
