"""What came of everything that was sent: read from the topics themselves, and from the source."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """The books of a soak; those that should be 0 are `wrong`.

    Attributes
    ----------
    messages, malformed, distinct : int
        Requests that lie on the topic (sent again included), what is no request, and addresses asked for.
    fetches : int
        At the source.
    letters : int
        In the dead-letter topic.
    wrong : dict of str to int
        What should not be.
    examples : list of str
        Some of it.
    """

    messages: int
    malformed: int
    distinct: int
    fetches: int
    letters: int
    wrong: dict[str, int]
    examples: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        requests: Iterable[bytes],
        answers: Iterable[dict[str, Any]],
        letters: Iterable[dict[str, Any]],
        asked: Counter[str],
    ) -> Account:
        """Draw up the account.

        Parameters
        ----------
        requests : iterable of bytes
            Everything that lies on the topic of requests.
        answers : iterable of dict
            Everything that lies on the results topics.
        letters : iterable of dict
            Everything that lies in the dead-letter topic.
        asked : Counter
            How often the source was asked, by path.

        Examples
        --------
        >>> request = b'{"metadata": {"request_id": "r"}, "query": "http://h/a"}'
        >>> answer = {"metadata": {"request_id": "r"}, "status": "ok", "data": {"items": [{"path": "/a"}]}}
        >>> good = Account.of([request], [answer], [], Counter({"/a": 1}))
        >>> good.messages, good.distinct, good.fetches, sum(good.wrong.values())
        (1, 1, 1, 0)
        >>> bad = Account.of([request, b"x"], [answer, answer], [], Counter({"/a": 2}))
        >>> {name: count for name, count in bad.wrong.items() if count}
        {'answers beyond messages': 1, 'malformed without a letter': 1, 'addresses fetched more than once': 1}
        """
        sent: Counter[str] = Counter()
        bad: Counter[bytes] = Counter()
        paths: dict[str, str] = {}
        for raw in requests:
            request_id, path = _request(raw)
            if request_id:
                sent[request_id] += 1
                paths[request_id] = path
            else:
                bad[raw] += 1
        got: dict[str, list[dict[str, Any]]] = {}
        for answer in answers:
            got.setdefault(answer["metadata"]["request_id"], []).append(answer)
        about = [letter["original"] for letter in letters]
        originals = Counter((original["partition"], original["offset"]) for original in about)
        lettered = Counter(base64.b64decode(original["value"]) for original in about)
        unanswered = [one for one in sent if one not in got]
        more = {one: len(got[one]) - count for one, count in sent.items() if len(got.get(one, ())) > count}
        fewer = {one: count - len(got[one]) for one, count in sent.items() if 0 < len(got.get(one, ())) < count}
        differ = [one for one in sent if len({json.dumps(_told(each)) for each in got.get(one, ())}) > 1]
        failed = [one for one in sent for each in got.get(one, ())[:1] if not _is_right(each, paths[one])]
        twice = [path for path, count in asked.items() if count > 1]
        wrong = {
            "requests without an answer": len(unanswered),
            "answers beyond messages": sum(more.values()),
            "messages without an answer of their own": sum(fewer.values()),
            "requests with answers that differ": len(differ),
            "requests answered with an error": len(failed),
            "malformed without a letter": sum((bad - lettered).values()),
            "letters about requests": sum(count for raw, count in lettered.items() if raw not in bad),
            "letters beyond the first about one message": sum(count - 1 for count in originals.values()),
            "addresses fetched more than once": len(twice),
        }
        some = [*unanswered[:3], *list(more)[:3], *list(fewer)[:3], *differ[:3], *twice[:3]]
        some += [str(got[one][0].get("error"))[:200] for one in failed[:3]]
        distinct = len(set(paths.values()))
        return cls(sum(sent.values()), sum(bad.values()), distinct, sum(asked.values()), len(about), wrong, some)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)


def _request(raw: bytes) -> tuple[str, str]:
    """Return a request's id and path; empty for what is no request."""
    try:
        value = json.loads(raw)
        return value["metadata"]["request_id"], "/" + value["query"].rsplit("/", 1)[1]
    except (ValueError, KeyError, TypeError):
        return "", ""


def _told(answer: dict[str, Any]) -> Sequence[Any]:
    return [answer["status"], answer.get("data"), answer.get("error")]


def _is_right(answer: dict[str, Any], path: str) -> bool:
    return bool(answer["status"] == "ok" and answer["data"]["items"] == [{"path": path}])
