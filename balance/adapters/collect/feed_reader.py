"""Reads an RSS or Atom feed: in its own process as ``python -m balance.adapters.collect.feed_reader``.

feedparser takes seconds for half a megabyte that is made for it (every element with a namespace of its own, say), and
four times as long for twice as much.
"""

from __future__ import annotations

import calendar
import io
import json
import sys
from typing import Any

from balance.adapters.collect.apart import TOO_LARGE, UNREADABLE, limit
from balance.clock import iso
from balance.errors import SourceUnavailable


def main() -> int:
    """Do so, with the limits and the content type on the command line; return the exit status."""
    [content_type] = limit()
    try:
        for entry in feed_entries(sys.stdin.buffer.read(), content_type):
            sys.stdout.write(f"{json.dumps(entry)}\n")
    except MemoryError:
        return TOO_LARGE
    except SourceUnavailable as error:
        sys.stderr.write(str(error)[:500])
        return UNREADABLE
    return 0


def feed_entries(body: bytes, content_type: str) -> list[dict[str, Any]]:
    """Return the entries: ``id``, ``title``, ``url``, ``published_at``, ``text``; `SourceUnavailable` if it is no feed.

    Examples
    --------
    >>> feed_entries(b"<rss version='2.0'><channel><item><title>Rain</title></item></channel></rss>", "")[0]["title"]
    'Rain'
    """
    import feedparser  # noqa: PLC0415 (slow to import)

    # A file object: bytes and text might be taken for a path or an address, and be opened.
    feed = feedparser.parse(io.BytesIO(body), response_headers={"content-type": content_type})
    if not feed.get("version") and not feed.entries:
        raise SourceUnavailable(str(feed.get("bozo_exception", "nothing known in it")))
    return [_entry(each) for each in feed.entries]


def _entry(entry: Any) -> dict[str, Any]:
    published = entry.get("published_parsed") or entry.get("updated_parsed")
    bodies = entry.get("content") or [{"value": entry.get("summary", "")}]
    return {
        "id": entry.get("id") or entry.get("link"),
        "title": entry.get("title", ""),
        "url": entry.get("link"),
        "published_at": None if published is None else iso(calendar.timegm(published)),
        "text": bodies[0].get("value") or "",
    }


if __name__ == "__main__":
    sys.exit(main())
