"""Full-text search over the documents that come with the installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actors.demo.models.base import DemoModel
from actors.demo.models.cache import ProcessCache
from balance.errors import InvalidValue
from balance.types import Priority, Resources, check_int

if TYPE_CHECKING:
    from actors.demo.models.bm25 import PassageIndex

MAX_QUERIES = 64
TOP = 3

#: The indices of this process, by the digest of the documents: building one is the dear part.  Fewer are
#: kept than there are shards, so requests for one shard are worth running together.
_INDICES: ProcessCache[PassageIndex] = ProcessCache(capacity=4)


class IndexerModel(DemoModel):
    """Answers queries from a BM25 index that each process builds once per shard.

    Examples
    --------
    >>> shard = {"documents": [{"title": "numpy", "text": "Arrays for Python, without warranty."}], "digest": "d1"}
    >>> [result] = IndexerModel().run([{"shard": 0, "queries": ["warranty"]}], {"documents/0": shard})
    >>> result["answers"][0]["hits"][0]["title"]
    'numpy'
    """

    model_id = "indexer"
    demand = Resources.demand(cpu=0.5, memory=512 * 2**20)
    priority = Priority.LOW
    objective_s = 5.0

    def needs(self, request: Mapping[str, Any]) -> list[str]:
        """Return ``["documents/<shard>"]``."""
        return [f"documents/{check_int('shard', request.get('shard'), minimum=0)}"]

    def answer(self, request: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """Answer every query of the request.  Cost: milliseconds; some tenths of a second for a shard's first.

        Returns
        -------
        dict
            ``shard`` (int), ``passages`` and ``words`` (sizes of the index), ``answers``: one per query with
            ``query`` and ``hits`` (``title``, ``score``, ``snippet``).
        """
        from actors.demo.models.bm25 import PassageIndex  # noqa: PLC0415 (importing the package stays cheap)

        queries = request.get("queries")
        if not isinstance(queries, list) or not 0 < len(queries) <= MAX_QUERIES:
            raise InvalidValue("queries", queries, f"a list of 1 to {MAX_QUERIES} strings")
        payload = data[self.needs(request)[0]]
        index = _INDICES.get(payload["digest"], lambda: PassageIndex(payload["documents"]))
        return {
            "shard": request["shard"],
            "passages": len(index),
            "words": index.words,
            "answers": [{"query": str(query), "hits": index.search(str(query), TOP)} for query in queries],
        }
