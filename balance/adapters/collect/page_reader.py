"""Finds the main text of a page: in its own process as ``python -m balance.adapters.collect.page_reader``.

trafilatura (Apache 2.0) is a well-kept extractor that also knows title, author, date and language.  But half a megabyte
that is made for it (short lists, one after the other) takes it half a minute, and twice as much four times as long.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from balance.adapters.collect.apart import TOO_LARGE, limit

ARTICLE, WORDS = "article", "words"
"""What may be looked for."""

FIELDS = ("text", "title", "author", "date", "language")


def main() -> int:
    """Do so, with the limits, what to look for, and the page's address on the command line; return the exit status."""
    wanted, url = limit()
    try:
        html = sys.stdin.buffer.read().decode("utf-8", "replace")
        sys.stdout.write(f"{json.dumps(page_article(html, url) if wanted == ARTICLE else page_words(html))}\n")
    except MemoryError:
        return TOO_LARGE
    return 0


def page_article(html: str, url: str) -> dict[str, Any]:
    """Return ``text``, ``title``, ``author``, ``date``, ``language``, None for what is not known.

    Examples
    --------
    >>> page_article("<title>Rain</title><p>It will rain.</p>", "https://example.org/rain")["title"]
    'Rain'
    """
    from trafilatura import bare_extraction  # noqa: PLC0415 (slow to import)
    from trafilatura.settings import Document  # noqa: PLC0415

    found = bare_extraction(html, url=url, with_metadata=True, include_comments=False)
    said = found.as_dict() if isinstance(found, Document) else {}
    if not said.get("text"):
        said["text"] = page_words(html)["text"]
    return {name: said.get(name) for name in FIELDS}


def page_words(html: str) -> dict[str, Any]:
    """Return the ``text`` of a whole page, and None for the rest: a page without an article still has words.

    Examples
    --------
    >>> page_words("<p>It will rain.</p>")["text"]
    'It will rain.'
    """
    from trafilatura import html2txt  # noqa: PLC0415 (slow to import)

    # A page that does not say that it is one is none to trafilatura.
    return dict.fromkeys(FIELDS) | {"text": html2txt(html) or html2txt(f"<html><body>{html}</body></html>")}


if __name__ == "__main__":
    sys.exit(main())
