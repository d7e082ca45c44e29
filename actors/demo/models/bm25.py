"""A full-text index of one shard of documents, ranked by BM25.

Documents are cut into passages, each passage is scored with Okapi BM25 (Robertson and Zaragoza, *The
Probabilistic Relevance Framework: BM25 and Beyond*, 2009), and the best are re-ranked by how close the
query's words stand to each other.  An index never changes once built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
PASSAGE_WORDS = 120
K1 = 1.2  # how fast repeating a word stops paying
B = 0.75  # how much a long passage is held against it


class PassageIndex:
    """An inverted index with positions over the passages of `documents`.

    Parameters
    ----------
    documents : sequence of mapping
        Each with ``title`` and ``text``.

    Examples
    --------
    >>> index = PassageIndex([{"title": "a", "text": "no warranty at all"}, {"title": "b", "text": "fast arrays"}])
    >>> [hit["title"] for hit in index.search("Warranty", top=3)]
    ['a']
    """

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._titles: list[str] = []
        self._passages: list[str] = []
        positions: dict[str, dict[int, list[int]]] = {}
        lengths: list[int] = []
        for document in documents:
            matches = list(_WORD.finditer(document["text"]))
            for first in range(0, len(matches), PASSAGE_WORDS):
                chunk = matches[first : first + PASSAGE_WORDS]
                number = len(lengths)
                lengths.append(len(chunk))
                self._titles.append(document["title"])
                self._passages.append(document["text"][chunk[0].start() : chunk[-1].end()])
                for place, match in enumerate(chunk):
                    positions.setdefault(match.group().casefold(), {}).setdefault(number, []).append(place)
        self._positions = positions
        self._postings = {word: self._posting(found) for word, found in positions.items()}
        mean = float(np.mean(lengths)) if lengths else 1.0
        self._norm: npt.NDArray[np.float64] = K1 * (1 - B + B * np.asarray(lengths, dtype=float) / mean)

    @staticmethod
    def _posting(found: Mapping[int, list[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        return (
            np.fromiter(found, dtype=np.int32, count=len(found)),
            np.fromiter((len(places) for places in found.values()), dtype=float, count=len(found)),
        )

    def __len__(self) -> int:
        return len(self._passages)

    @property
    def words(self) -> int:
        """How many different words there are."""
        return len(self._postings)

    def search(self, query: str, top: int) -> list[dict[str, Any]]:
        """Return the `top` passages for `query`, best first; equal scores in the order of the documents.

        Returns
        -------
        list of dict
            ``title`` (str), ``score`` (float, higher is better), ``snippet`` (str, at most 160 characters).
            Cost: O(postings of the query's words).
        """
        words = sorted({match.group().casefold() for match in _WORD.finditer(query)} & self._postings.keys())
        if not words:
            return []
        scores = np.zeros(len(self._passages))
        for word in words:
            passages, counts = self._postings[word]
            rarity = np.log1p((len(self._passages) - len(passages) + 0.5) / (len(passages) + 0.5))
            scores[passages] += rarity * counts * (K1 + 1) / (counts + self._norm[passages])
        shortlist = np.argsort(-scores, kind="stable")[: 4 * top]
        ranked = sorted(
            ((float(scores[n]) * (1 + self._closeness(int(n), words)), int(n)) for n in shortlist if scores[n] > 0),
            key=lambda pair: (-pair[0], pair[1]),
        )
        return [
            {"title": self._titles[n], "score": round(score, 4), "snippet": self._snippet(n, words)}
            for score, n in ranked[:top]
        ]

    def _closeness(self, number: int, words: Sequence[str]) -> float:
        """Return 1 where all words stand side by side, falling to 0 as the window that holds them grows."""
        places = sorted(
            (place, which) for which, word in enumerate(words) for place in self._positions[word].get(number, ())
        )
        present = {which for _, which in places}
        if len(present) < 2:
            return 0.0
        last: dict[int, int] = {}
        narrowest = PASSAGE_WORDS
        for place, which in places:
            last[which] = place
            if len(last) == len(present):
                narrowest = min(narrowest, place - min(last.values()) + 1)
        return len(present) / narrowest * len(present) / len(words)

    def _snippet(self, number: int, words: Sequence[str]) -> str:
        text = " ".join(self._passages[number].split())
        folded = text.casefold()
        first = min((at for word in words if (at := folded.find(word)) >= 0), default=0)
        return text[max(0, first - 40) : max(0, first - 40) + 160]
