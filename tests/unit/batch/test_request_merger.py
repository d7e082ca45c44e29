"""Merging: what counts as the same, and what a merged request keeps."""

from __future__ import annotations

import copy
import enum
import operator
from datetime import UTC, datetime

import pytest

from balance.batch.processor import RequestMerger, content_key
from balance.errors import InvalidValue

SAME = [
    ({"query": "Cats"}, {"query": "  cats\n"}),
    ({"query": "STRASSE"}, {"query": "straße"}),
    ({"query": "ﬁne"}, {"query": "fine"}),
    ({"query": "علي كاظمي"}, {"query": "علی کاظمی"}),
    ({"query": "می‌خواهم"}, {"query": "میخواهم"}),
    ({"query": "سَلام"}, {"query": "سلام"}),
    ({"query": "ســـلام"}, {"query": "سلام"}),
    ({"query": "أحمد"}, {"query": "احمد"}),
    ({"query": "آب"}, {"query": "اب"}),
    ({"query": "مدرسة"}, {"query": "مدرسه"}),
    ({"query": "سال ۱۴۰۲"}, {"query": "سال 1402"}),
    ({"query": "٣٤"}, {"query": "34"}),
    ({"a": 1, "b": {"c": [1, 2], "d": "X"}}, {"b": {"d": "x", "c": (1, 2)}, "a": 1.0}),
    ({"q": "x", "request_id": "1", "timestamp": 5}, {"q": "x", "id": 9, "created_at": "2024-01-01"}),
    ({"q": "x", "metadata": {"request_id": "1"}}, {"q": "x", "metadata": {"trace_id": "t"}}),
    ({"q": "x", "metadata": {"request_id": "1"}}, {"q": "x"}),
    ({"q": "x", "model_id": "a", "source_type": "wiki"}, {"q": "x", "model_id": "b", "source_type": "wiki"}),
    ({"q": {"b", "a"}}, {"q": {"a", "b"}}),
    ({"q": operator.add}, {"q": operator.add}),
    ({"q": datetime(2024, 1, 1, tzinfo=UTC)}, {"q": datetime(2024, 1, 1, tzinfo=UTC)}),
]

DIFFERENT = [
    ({"query": "cats"}, {"query": "dogs"}),
    ({"query": "resume"}, {"query": "résumé"}),
    ({"query": "x", "limit": 5}, {"query": "x", "limit": 6}),
    ({"query": "x", "count": 5}, {"query": "x", "count": 6}),
    ({"query": "5"}, {"query": 5}),
    ({"flag": True}, {"flag": 1}),
    ({"q": [1, 2]}, {"q": [2, 1]}),
    ({"q": None}, {}),
    ({"q": "x", "model_id": "a"}, {"q": "x", "model_id": "b"}),
    ({"url": "https://a.example/Path"}, {"url": "https://a.example/path"}),
    ({"query": "https://a.example/Path"}, {"query": "https://a.example/path"}),
    ({"data_id": "Series"}, {"data_id": "series"}),
    (
        {"source_type": "database", "query": "select 1 where a = 'Ali'"},
        {"source_type": "database", "query": "select 1 where a = 'ali'"},
    ),
    ({"q": b"1"}, {"q": "1"}),
    ({"q": [{"x": 1}]}, {"q": [{"y": 1}]}),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_same_content_has_one_key(left, right):
    """Spelling, spacing, identity fields and the order of keys make no difference."""
    assert content_key(left) == content_key(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_content_has_two_keys(left, right):
    """A merge that should not be would hand somebody the wrong answer."""
    assert content_key(left) != content_key(right)


def test_key_is_stable_between_processes():
    """The key is part of durable records: it must never change by itself."""
    assert content_key({"query": "Cats", "limit": 2, "tags": ["A"]}) == "47b28a3f796961df1bb6999d1958f5ff"


def test_str_enum_reads_as_its_value():
    """A request built from enums asks for the same as one built from their strings."""
    source = enum.Enum("source", {"WIKI": "wiki"})
    assert content_key({"source_type": source.WIKI, "q": 1}) == content_key({"source_type": "wiki", "q": 1})


@pytest.mark.parametrize("value", [lambda: 1, object(), {object(): 1}])
def test_content_without_canonical_form_has_no_key(value):
    """What can't be compared has no key, and stays alone in a merge."""
    with pytest.raises(InvalidValue):
        content_key({"q": value})
    merged = RequestMerger().merge_requests([{"q": value}, {"q": value}])
    assert [one["count"] for one in merged] == [1, 1]


def test_endless_nesting_has_no_key():
    """A list that holds itself is refused instead of never ending."""
    endless: list = []
    endless.append(endless)
    with pytest.raises(InvalidValue):
        content_key({"q": endless})


def test_merged_request_speaks_for_all():
    """Count, ids, topics, the most urgent priority and the earliest deadline of all; the first one's content."""
    requests = [
        {"request_id": "a", "q": "X", "response_topic": "t1", "priority": "low", "deadline": 30},
        {"id": 7, "q": "x", "response_topic": "t2", "priority": 2, "deadline": 20.5},
        {"request_id": "c", "q": "x ", "response_topic": "t1"},
    ]
    before = copy.deepcopy(requests)
    (merged,) = RequestMerger().merge_requests(requests)
    assert merged == {
        "request_id": "a",
        "q": "X",
        "response_topic": "t1",
        "priority": 2,
        "deadline": 20.5,
        "count": 3,
        "request_ids": ["a", "7", "c"],
        "response_topics": ["t1", "t2"],
    }
    assert requests == before


def test_merging_merged_requests_adds_up():
    """Merging in two steps gives what merging at once gives."""
    merger = RequestMerger()
    requests = [{"request_id": str(n), "q": "AB"[n % 2]} for n in range(6)]
    halves = merger.merge_requests(requests[:3]) + merger.merge_requests(requests[3:])
    together = sorted(merger.merge_requests(halves), key=lambda one: one["q"])
    assert [(one["count"], sorted(one["request_ids"])) for one in together] == [
        (3, ["0", "2", "4"]),
        (3, ["1", "3", "5"]),
    ]


@pytest.mark.parametrize("wrong", [None, {"q": 1}, [1], "text"])
def test_wrong_input_is_named(wrong):
    """A caller's mistake raises and names it."""
    with pytest.raises(InvalidValue, match="batch_data"):
        RequestMerger().merge_requests(wrong)
