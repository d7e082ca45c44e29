"""Whatever lies on a topic: a message is understood as a whole or rejected with a reason, and never anything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance.errors import InvalidValue, MessageRejected
from balance.messaging import schemas
from balance.messaging.delivery import decode_message, encode_message
from balance.messaging.enums import DataSource, DataType
from balance.messaging.topics import check_topic, results_topic

IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=512).filter(str.strip)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_parsers = st.sampled_from([schemas.parse_request, schemas.parse_response, schemas.parse_model_request])


def _request(**changed):
    request = schemas.create_data_request(
        "m", "q", DataType.TEXT, DataSource.WIKI, response_topic=results_topic("m"), now_s=0.0, request_id="r"
    )
    return {**request.model_dump(mode="json"), **changed}


@given(_parsers, st.binary() | _json.map(lambda v: json.dumps(v).encode()) | st.binary().map(lambda b: b"{" + b + b"}"))
def test_garbage_is_rejected_and_nothing_else(parse, raw):
    """Random bytes and random JSON never crash a parser."""
    with pytest.raises(MessageRejected):
        parse(raw)


@given(_parsers, st.sampled_from(sorted(_request())), _json)
def test_one_wrong_field_is_rejected_or_valid(parse, field, value):
    """A request with one field replaced by anything is rejected, or is a request that survives a round trip."""
    raw = json.dumps(_request(**{field: value})).encode()
    try:
        parsed = schemas.parse_request(raw)
    except MessageRejected as error:
        assert str(error)
    else:
        assert schemas.parse_request(parsed.model_dump_json().encode()) == parsed


@given(_json)
def test_what_is_sent_is_what_is_read(value):
    """Anything that is accepted for sending comes back equal; what can't is refused before it is sent."""
    try:
        raw = encode_message({"v": value})
    except InvalidValue:
        return
    assert decode_message(raw) == {"v": value}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'{"v": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"v": ' + b"9" * 10_000 + b"}",
        b'{"v": "' + b"x" * (2**20) + b'"}',
        b"cos\nsystem\n(S'true'\ntR.",
    ],
    ids=["empty", "null", "list", "nan", "not utf-8", "deep list", "deep dict", "huge number", "too large", "pickle"],
)
def test_hostile_bytes(raw):
    """Malformed, bottomless, oversized and pickled messages are rejected with a reason."""
    with pytest.raises(MessageRejected, match=r"\w+"):
        schemas.parse_request(raw)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"data_source": "darkweb"}, "data_source"),
        ({"query": "  "}, "blank"),
        ({"response_topic": "balance.data.requests"}, "response_topic"),
        ({"response_topic": "balance.results.../../x"}, "response_topic"),
        ({"surprise": 1}, "surprise"),
        ({"model_id": ""}, "model_id"),
    ],
)
def test_the_reason_names_the_field(changed, reason):
    """Who reads the dead letter sees at once what was wrong."""
    with pytest.raises(MessageRejected, match=reason):
        schemas.parse_request(json.dumps(_request(**changed)).encode())


@given(IDS, IDS)
def test_results_topics_are_safe_and_distinct(one, other):
    """Any model id in any script gives a valid name; different ids give different names."""
    assert check_topic(results_topic(one)).startswith("balance.results.")
    assert (results_topic(one) == results_topic(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [("a b", "a-b"), ("مدل", "مدل‌"), ("A", "a"), ("é", "e\u0301"), ("a/../b", "a.b")]
)
def test_lookalikes_get_topics_of_their_own(one, other):
    """Ids that look alike, or would after cleaning, do not share a topic."""
    assert results_topic(one) != results_topic(other)
