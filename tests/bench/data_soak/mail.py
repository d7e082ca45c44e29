"""What is sent: requests, some of them for what others ask for too, some sent twice, and messages that are none."""

from __future__ import annotations

import random
from typing import NamedTuple

MODELS = 4
DUPLICATES = 0.3
"""The share of requests that ask for what another one asks for; one in five of them is the same message again."""

MALFORMED = 0.02

_BAD = (
    b"not json {n}",
    b"[{n}]",
    b'{"n": {n}, "v": NaN}',
    b'{"schema_version": 2, "n": {n}}',
    b'{"schema_version": 1, "data_source": "darkweb", "n": {n}}',
    b'{"schema_version": 1, "metadata": {"request_id": "bad-{n}"}, "response_topic": "../{n}"}',
    b"\x80\x04cos\nsystem\n{n}",
)


class Item(NamedTuple):
    """One thing to send.

    Attributes
    ----------
    kind : str
        ``ask``, ``again`` (the request of this id was sent before, as it is), or ``bad``.
    request_id : str
        Of a request; empty for what is none.
    model : str
        Who asks.
    path : str
        For what.
    raw : bytes
        Of what is no request.
    """

    kind: str
    request_id: str = ""
    model: str = ""
    path: str = ""
    raw: bytes = b""


def items(count: int, seed: int) -> list[Item]:
    """Return `count` things to send, in order.

    Examples
    --------
    >>> made = items(1_000, seed=1)
    >>> kinds = [item.kind for item in made]
    >>> kinds.count("bad"), kinds.count("again"), len({item.path for item in made if item.kind == "ask"})
    (20, 58, 686)
    """
    rng = random.Random(seed)
    bad = round(count * MALFORMED)
    valid = count - bad
    distinct = valid - round(valid * DUPLICATES)
    again = (valid - distinct) // 5
    paths = [f"/{number}" for number in range(distinct)]
    paths += [rng.choice(paths) for _ in range(valid - distinct - again)]
    rng.shuffle(paths)
    made = [Item("ask", f"r-{number}", f"soak-{number % MODELS}", path=path) for number, path in enumerate(paths)]
    for _ in range(again):
        place = rng.randrange(len(made))
        first = made[place]
        made.insert(rng.randint(place + 1, len(made)), first._replace(kind="again"))
    for number in range(bad):
        raw = _BAD[number % len(_BAD)].replace(b"{n}", str(number).encode())
        made.insert(rng.randint(0, len(made)), Item("bad", raw=raw))
    return made
