"""Each kind of source, against a real server on this machine that answers as the real ones do."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from importlib.metadata import EntryPoint

import pytest

from balance.adapters.collect import apart, feed, formats, web
from balance.adapters.collect.aparat import AparatSource
from balance.adapters.collect.api import ApiSource
from balance.adapters.collect.collectors import Collectors
from balance.adapters.collect.custom import GROUP, CustomSource
from balance.adapters.collect.document import DocumentSource
from balance.adapters.collect.feed import FeedSource
from balance.adapters.collect.formats import records
from balance.adapters.collect.table import TableSource
from balance.adapters.collect.telegram import TelegramSource
from balance.adapters.collect.twitter import TwitterSource
from balance.adapters.collect.wanted import Wanted
from balance.adapters.collect.web import WebSource
from balance.adapters.collect.wiki import WikiSource
from balance.adapters.collect.youtube import YoutubeSource
from balance.clock import FakeClock
from balance.config import Settings
from balance.errors import AccessRefused, ConfigurationError, InvalidValue, SourceUnavailable, UnknownId
from balance.messaging import DataSource

RSS = """<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>News</title>
<item><title>Rain in Tehran</title><link>https://example.org/1</link><guid>1</guid>
<pubDate>Mon, 01 Jan 2024 10:00:00 GMT</pubDate><description>It &lt;b&gt;rains&lt;/b&gt;
&lt;script&gt;alert(1)&lt;/script&gt;.</description></item>
<item><title>Sun in Shiraz</title><link>https://example.org/2</link><guid>2</guid>
<pubDate>Tue, 02 Jan 2024 10:00:00 GMT</pubDate><description>Roses.</description></item></channel></rss>"""


# -- the web


def test_a_page_gives_its_main_text(site, client, article):
    """The article without navigation and footer, with title and language."""
    site.page("/a", article(), Content_Type="text/html; charset=utf-8")
    found = WebSource(client).collect(Wanted(f"{site.url}/a"))
    [item] = found.items
    assert item["title"] == "گربه ایرانی" and "موهای بلند" in item["text"]
    assert "about" not in item["text"]
    assert (item["url"], found.media_type, found.from_cache) == (f"{site.url}/a", "text/html", False)


def test_a_page_that_is_made_to_keep_us_busy_gives_all_its_words(site, client, monkeypatch):
    """Short lists, one after the other: to look for an article in half a megabyte of them takes half a minute."""
    monkeypatch.setattr(apart, "CPU_S", 3)
    site.page("/a", "<p>salam</p>" + "<ul><li>x</li></ul>" * 27_000, Content_Type="text/html")
    [item] = WebSource(client).collect(Wanted(f"{site.url}/a")).items
    assert item["text"].split()[:2] == ["salam", "x"] and item["title"] is None


def test_a_large_page_gets_what_is_left_of_the_time(site, client):
    """A request whose time is up gets neither the article nor the words."""
    site.page("/a", "<ul><li>x</li></ul>" * 27_000, Content_Type="text/html")
    wanted = Wanted(f"{site.url}/a", deadline_s=client.clock.now() + 0.5)
    with pytest.raises(AccessRefused, match=r"0(\.[0-9]+)? s to read"):
        WebSource(client).collect(wanted)


@pytest.mark.parametrize("small_characters", [0, 2**20])
def test_a_page_is_the_same_wherever_it_is_read(site, client, article, monkeypatch, small_characters):
    """In this process and in one of its own: the same main text, title and language."""
    monkeypatch.setattr(web, "SMALL_CHARACTERS", small_characters)
    site.page("/a", article(), Content_Type="text/html; charset=utf-8")
    [item] = WebSource(client).collect(Wanted(f"{site.url}/a")).items
    assert (item["title"], item["date"]) == ("گربه ایرانی", None)
    assert item["text"].startswith("گربه") and "about" not in item["text"]


def test_the_page_s_own_charset_counts(site, client, article):
    """A page in windows-1256 that only its meta element says so of."""
    page = article().replace('charset="utf-8"', 'charset="windows-1256"').replace("ی", "ي").encode("cp1256")
    site.page("/a", page, Content_Type="text/html")
    [item] = WebSource(client).collect(Wanted(f"{site.url}/a")).items
    assert "گربه" in item["text"]


@pytest.mark.parametrize("page", ["<html><body><p>salam</p></body></html>", "<p>salam</p>"])
def test_a_page_without_an_article_still_has_words(site, client, page):
    """Where no main text is found, all text is the answer, of what does not say that it is a page, too."""
    site.page("/a", page, Content_Type="text/html")
    [item] = WebSource(client).collect(Wanted("cats", {"url": f"{site.url}/a"})).items
    assert item["text"].strip() == "salam"


def test_other_media_come_as_they_are(site, client):
    """JSON is data, text is text, and what is neither is base64."""
    site.page("/j", '{"a": 1}', Content_Type="application/ld+json")
    site.page("/t", "salam", Content_Type="text/plain")
    site.page("/b", b"\x00\x01", Content_Type="image/png")
    web = WebSource(client)
    assert web.collect(Wanted(f"{site.url}/j")).items[0]["data"] == {"a": 1}
    assert web.collect(Wanted(f"{site.url}/t")).items[0]["text"] == "salam"
    assert web.collect(Wanted(f"{site.url}/b")).items[0]["base64"] == "AAE="


def test_robots_are_honoured(site, client):
    """Rules with wildcards, the longest wins; a redirect to a page that is not allowed ends there; asked once."""
    site.page("/robots.txt", "User-agent: *\nDisallow: /private/*.html$\nDisallow: /no\nAllow: /no/but\n")
    for path in ("/private/a.html", "/private/a.htm", "/no/x", "/no/but/this"):
        site.page(path, "x", Content_Type="text/plain")
    site.page("/to", b"", 302, Location="/no/x")
    web = WebSource(client)
    for path in ("/private/a.html", "/no/x", "/to"):
        with pytest.raises(AccessRefused, match=r"robots\.txt"):
            web.collect(Wanted(site.url + path))
    for path in ("/private/a.htm", "/no/but/this"):
        web.collect(Wanted(site.url + path))
    assert (site.asked["/robots.txt"], site.asked["/no/x"], site.asked["/private/a.html"]) == (1, 0, 0)


def test_rules_for_balance_and_its_pace(site, made):
    """A crawl delay for this agent is kept; a host without rules allows all, one that can't say them is left alone."""
    clock = FakeClock()
    site.page("/robots.txt", "User-agent: balance\nCrawl-delay: 5\n\nUser-agent: *\nDisallow: /\n")
    site.page("/a", "x", Content_Type="text/plain")
    web = WebSource(made(clock=clock, timeout_s=60.0))
    for number in range(3):
        web.collect(Wanted(f"{site.url}/a?{number}"))
    assert clock.now() == 10.0
    site.page("/robots.txt", b"", 500)
    clock.advance(100_000.0)
    with pytest.raises(SourceUnavailable, match="answered 500"):
        web.collect(Wanted(f"{site.url}/a?4"))


def test_a_search_needs_a_search_service(site, client):
    """Without one the error says what to set; with one its results are the items."""
    with pytest.raises(ConfigurationError, match="BALANCE_SEARCH_URL"):
        WebSource(client).collect(Wanted("persian cats"))
    site.json("/search", lambda query: {"results": [{"url": "https://a", "title": query["q"], "content": "c"}] * 3})
    web = WebSource(client, search_url=f"{site.url}/search?format=json&q={{query}}")
    found = web.collect(Wanted("گربه & co", {"limit": 2}))
    assert found.items == [{"url": "https://a", "title": "گربه & co", "text": "c"}] * 2
    site.json("/search", {"error": "x"})
    with pytest.raises(SourceUnavailable, match="results"):
        web.collect(Wanted("x", {"max_age_s": 0}))


# -- wiki and feeds


def wiki(query):
    """Answer as the MediaWiki API does: full extracts one page at a time, so the second comes by continuation."""
    assert query["action"] == "query" and query["gsrsearch"] == "گربه"
    pages = [
        {"pageid": 7, "title": "سگ", "index": 2, "fullurl": "https://fa/7", "revisions": [{"revid": 71}]},
        {"pageid": 5, "title": "گربه", "index": 1, "fullurl": "https://fa/5", "revisions": [{"revid": 51}]},
    ]
    which = int(query.get("excontinue", 1))
    pages[which]["extract"] = f"extract {pages[which]['pageid']}"
    rights = {"url": "https://creativecommons.org/licenses/by-sa/4.0/", "text": "CC BY-SA 4.0"}
    answer = {"query": {"pages": pages, "rightsinfo": rights}}
    return {"continue": {"excontinue": 0}, **answer} if which else {"batchcomplete": True, **answer}


def test_wiki_searches_and_puts_pages_together(site, client):
    """The best first, texts from every continuation, with revision and licence."""
    site.json("/w/api.php", wiki)
    found = WikiSource(client).collect(Wanted("گربه", {"api_url": f"{site.url}/w/api.php"}))
    assert [(item["title"], item["text"], item["revision_id"]) for item in found.items] == [
        ("گربه", "extract 5", 51),
        ("سگ", "extract 7", 71),
    ]
    assert {item["license"] for item in found.items} == {"CC BY-SA 4.0"}
    assert {item["language"] for item in found.items} == {"fa"}
    assert site.asked["/w/api.php"] == 2


def test_wiki_s_errors_are_errors(site, client):
    """An error of the API, and a language that would be another host."""
    site.json("/w/api.php", {"error": {"code": "ratelimited", "info": "slow down"}})
    with pytest.raises(SourceUnavailable, match="ratelimited"):
        WikiSource(client).collect(Wanted("x", {"api_url": f"{site.url}/w/api.php"}))
    for language in ("fa.evil.org/", "FA", "", "a" * 40):
        with pytest.raises(InvalidValue):
            WikiSource(client, language=language).collect(Wanted("x"))


def test_a_feed_gives_its_entries(site, client):
    """Newest first, with dates, and nothing in them that could run."""
    site.page("/feed", RSS, Content_Type="application/rss+xml", ETag='"1"')
    found = FeedSource(client).collect(Wanted(f"{site.url}/feed"))
    assert [item["title"] for item in found.items] == ["Sun in Shiraz", "Rain in Tehran"]
    assert found.items[0]["published_at"] == "2024-01-02T10:00:00.000+00:00"
    assert "rains" in found.items[1]["text"] and "script" not in found.items[1]["text"]


def test_news_are_what_feeds_have_on_a_question(site, client):
    """All words of the query count, over all feeds; without feeds the error says what to set."""
    site.page("/feed", RSS, Content_Type="application/rss+xml")
    found = FeedSource(client, news=True, feeds=f"{site.url}/feed").collect(Wanted("TEHRAN rain"))
    assert [item["id"] for item in found.items] == ["1"]
    with pytest.raises(ConfigurationError, match="BALANCE_NEWS_FEEDS"):
        FeedSource(client, news=True).collect(Wanted("rain"))
    with pytest.raises(InvalidValue, match="feeds"):
        FeedSource(client, news=True).collect(Wanted("rain", {"feeds": "x"}))


@pytest.mark.parametrize("body", ["/etc/passwd", "http://127.0.0.1:9/", "<html><p>no feed</p></html>", ""])
def test_what_is_no_feed_is_refused_and_not_opened(site, client, body):
    """A body that is a path or an address is a body, not something to open."""
    site.page("/feed", body, Content_Type="text/plain")
    with pytest.raises(SourceUnavailable, match="as feed"):
        FeedSource(client).collect(Wanted(f"{site.url}/feed"))


@pytest.mark.parametrize("charset", ["utf-8", "utf-16"])
def test_a_feed_of_entities_is_refused(site, client, charset):
    """A billion laughs: a feed that declares entities is not parsed at all."""
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    feed = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "lol">{entities}]>' + RSS.partition("?>")[2].replace(
        "Roses", "&a9;"
    )
    site.page("/feed", feed.encode(charset), Content_Type="application/rss+xml")
    with pytest.raises(AccessRefused, match="declares entities"):
        FeedSource(client).collect(Wanted(f"{site.url}/feed"))


def hostile(elements):
    """A feed of which each element has a namespace of its own: four times the elements, sixteen times the work."""
    parts = "".join(f'<x{n}:a xmlns:x{n}="u{n}"/>' for n in range(elements))
    return f'<?xml version="1.0"?><rss version="2.0"><channel><item>{parts}</item></channel></rss>'


def test_a_feed_that_is_made_to_keep_us_busy_is_refused(site, client, monkeypatch):
    """Half a megabyte that would take eight seconds ends with the process that reads it; a minute's feed does not."""
    monkeypatch.setattr(apart, "CPU_S", 3)
    site.page("/feed", hostile(16_000), Content_Type="application/rss+xml")
    with pytest.raises(AccessRefused, match="3 s of a processor"):
        FeedSource(client).collect(Wanted(f"{site.url}/feed"))
    site.page("/large", RSS.replace("Roses.", "Roses. " * 50_000), Content_Type="application/rss+xml")
    found = FeedSource(client).collect(Wanted(f"{site.url}/large"))
    assert [item["title"] for item in found.items] == ["Sun in Shiraz", "Rain in Tehran"]


def test_a_large_feed_gets_what_is_left_of_the_time(site, client):
    """A request that is over soon does not wait for a feed; one whose time is up gets none."""
    site.page("/feed", hostile(16_000), Content_Type="application/rss+xml")
    wanted = Wanted(f"{site.url}/feed", deadline_s=client.clock.now() + 0.5)
    with pytest.raises(AccessRefused, match=r"0\.[0-9]+ s to read"):
        FeedSource(client).collect(wanted)


@pytest.mark.parametrize("small_bytes", [0, 2**20])
def test_a_feed_is_the_same_wherever_it_is_read(site, client, monkeypatch, small_bytes):
    """In this process and in one of its own: the same entries, and the same word of what is no feed."""
    monkeypatch.setattr(feed, "SMALL_BYTES", small_bytes)
    site.page("/feed", RSS, Content_Type="application/rss+xml")
    site.page("/none", "<html><p>no feed</p></html>", Content_Type="text/html")
    [sun, rain] = FeedSource(client).collect(Wanted(f"{site.url}/feed")).items
    assert sun == {
        "id": "2",
        "title": "Sun in Shiraz",
        "url": "https://example.org/2",
        "published_at": "2024-01-02T10:00:00.000+00:00",
        "text": "Roses.",
        "feed": f"{site.url}/feed",
    }
    assert "script" not in rain["text"]
    with pytest.raises(SourceUnavailable, match="can't be read as feed"):
        FeedSource(client).collect(Wanted(f"{site.url}/none"))


# -- APIs


def test_an_api_s_pages_are_followed(site, client):
    """By Link header, by address in the answer, by number, and by cursor; each ends at the last page."""
    pages = [{"data": {"rows": [{"n": 0}, {"n": 1}]}}, {"data": {"rows": [{"n": 2}]}}]

    def linked(query, _headers):
        page = int(query.get("p", 0))
        link = {"Link": f'<{site.url}/link?p=1>; rel="next"'} if page == 0 else {}
        return 200, link, json.dumps(pages[page]).encode()

    site.pages["/link"] = linked
    site.json("/body", lambda q: {**pages[int(q.get("p", 0))], "next": "/body?p=1" if "p" not in q else None})
    site.json("/page", lambda q: {"data": {"rows": pages[int(q["p"])]["data"]["rows"] if int(q["p"]) < 2 else []}})
    site.json("/cursor", lambda q: {**pages[int(q.get("c", 0))], "meta": {"c": None if "c" in q else 1}})
    for path, parameters in (
        ("/link", {}),
        ("/body", {}),
        ("/page", {"pagination": "page", "page_param": "p", "params": {"p": 0, "x": "y"}, "first_page": 1}),
        ("/cursor", {"pagination": "cursor", "cursor_param": "c", "next": "meta.c"}),
    ):
        found = ApiSource(client).collect(Wanted(site.url + path, {"items": "data.rows", **parameters}))
        numbers = [item["n"] for item in found.items]
        assert numbers == ([2] if path == "/page" else [0, 1, 2]), path


def test_credentials_go_to_the_api_that_they_are_for(site, client):
    """By origin, page after page; another origin does not get them, and a bad setting is told without showing it."""
    other = f"http://localhost:{site.url.rpartition(':')[2]}"
    heard = []

    def answers(body, **said):
        def answer(_query, headers):
            heard.append(headers.get("X-Key"))
            return 200, said, body

        return answer

    site.page("/a", answers(b"[1]", Link=f"<{other}/b>; rel=next"))
    site.page("/b", answers(b"[2]"))
    source = ApiSource(client, headers=json.dumps({site.url: {"X-Key": "key-of-ours"}}))
    assert source.collect(Wanted(f"{site.url}/a")).items == [1, 2]
    assert heard == ["key-of-ours", None]
    for bad in ("key-of-ours", '{"key-of-ours": {}}', '["key-of-ours"]', '{"https://a": {"key-of-ours": "a\\nb"}}'):
        with pytest.raises(ConfigurationError, match="BALANCE_API_HEADERS") as caught:
            ApiSource(client, headers=bad).collect(Wanted(f"{site.url}/a"))
        assert "key-of-ours" not in str(caught.value)


def test_an_api_that_never_ends_is_bounded(site, client):
    """Pages and items have limits; one that leads to itself ends there."""
    site.json("/api", lambda query: {"items": [1], "next": f"/api?n={int(query.get('n', 0)) + 1}"})
    api = ApiSource(client)
    assert len(api.collect(Wanted(f"{site.url}/api", {"items": "items", "max_pages": 3})).items) == 3
    assert len(api.collect(Wanted(f"{site.url}/api", {"items": "items", "limit": 2})).items) == 2
    with pytest.raises(InvalidValue, match="at most 100"):
        api.collect(Wanted(f"{site.url}/api", {"max_pages": 101}))


def test_an_api_s_bad_answers_are_errors(site, client):
    """No JSON, JSON without end, and a next page that is no address or not of the web."""
    site.page("/no", "<html>")
    site.page("/deep", "[" * 200_000)
    site.json("/file", {"items": [1], "next": "file:///etc/passwd"})
    for path in ("/no", "/deep"):
        with pytest.raises(SourceUnavailable, match="JSON"):
            ApiSource(client).collect(Wanted(site.url + path))
    with pytest.raises(AccessRefused, match="not an http"):
        ApiSource(client).collect(Wanted(f"{site.url}/file", {"items": "items"}))


# -- files, databases, your own


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "a,b\n1,2\n3\n4,5,6\n", [
            {"a": "1", "b": "2"}, {"a": "3", "b": ""}, {"a": "4", "b": "5", "_more": ["6"]},
        ]),
        ("a.tsv", "a\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
        ("a.json", '[{"a": 1}]', [{"a": 1}]),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("a.txt", "سلام", [{"text": "سلام"}]),
    ],
)  # fmt: skip
def test_files_become_records(client, stored, tmp_path, name, content, expected):  # noqa: PLR0917 (fixtures)
    """By the address's ending; the same compressed."""
    documents = DocumentSource(client, stored(tmp_path))
    (tmp_path / name).write_text(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert documents.collect(Wanted(str(tmp_path / name))).items == expected
    assert documents.collect(Wanted(f"file://{tmp_path / name}.gz")).items == expected


def test_a_message_s_file_is_refused(client, stored, tmp_path, bomb):
    """A file outside of the allowed folders, a chain of places, a bomb: refused, with the reason."""
    documents = DocumentSource(client, stored(tmp_path / "in"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bomb.txt.gz").write_bytes(bomb)
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    for address in ("file:///etc/passwd", f"{tmp_path}/in/link", "zip://a::file:///etc/passwd", "ssh://h/a"):
        with pytest.raises(AccessRefused):
            documents.collect(Wanted(address))
    with pytest.raises(AccessRefused, match="more than"):
        documents.collect(Wanted(f"{tmp_path}/in/bomb.txt.gz"))
    (tmp_path / "in" / "a.json").write_text("{")
    with pytest.raises(SourceUnavailable, match="can't be read as json"):
        documents.collect(Wanted(f"{tmp_path}/in/a.json"))


def test_a_file_of_the_web_is_cached(site, client, stored):
    """It goes the way of everything else on the web."""
    site.page("/a.csv", "a\n1\n", Content_Type="text/csv")
    documents = DocumentSource(client, stored())
    assert [documents.collect(Wanted(f"{site.url}/a.csv")).from_cache for _ in range(2)] == [False, True]
    assert site.asked["/a.csv"] == 1


def parquet_of(columns):
    import pyarrow
    from pyarrow import parquet

    written = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), written, compression="zstd")
    return written.getvalue()


def test_parquet_is_read():
    """Rows as JSON, up to the limit; a number that is none is null, and what is no Parquet is the source's failure."""
    body = parquet_of({"a": [1, 2, 3], "b": [b"x", None, b""], "c": [0.5, float("nan"), float("inf")]})
    rows = records(body, "parquet", limit=2, max_bytes=10_000, shown="a.parquet")
    assert rows == [{"a": 1, "b": "eA==", "c": 0.5}, {"a": 2, "b": None, "c": None}]
    with pytest.raises(SourceUnavailable, match="as parquet"):
        records(b"PAR1", "parquet", limit=1, max_bytes=100, shown="a.parquet")


def test_a_parquet_bomb_is_refused(monkeypatch):
    """A kilobyte that stands for eighty gigabytes ends with its own process, and so does one that takes too long."""
    import pyarrow

    word = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20_000, pyarrow.int32()), ["x" * 4_000_000])
    bomb = parquet_of({"a": word})
    assert len(bomb) < 2_000
    monkeypatch.setattr(apart, "MEMORY_BYTES", 700 * 2**20)
    with pytest.raises(AccessRefused, match="bytes of memory"):
        records(bomb, "parquet", limit=100_000, max_bytes=10_000, shown="a.parquet")
    with pytest.raises(AccessRefused, match="0 s to read"):
        records(parquet_of({"a": [1]}), "parquet", limit=1, max_bytes=10_000, shown="a.parquet", timeout_s=0.0)


def test_a_table_that_grows_when_it_is_read_is_refused(monkeypatch):
    """A long header fills every short line up: a megabyte would be gigabytes."""
    monkeypatch.setattr(formats, "CELLS_MAX", 100_000)
    body = (",".join(f"c{n}" for n in range(10_000)) + "\n" + "1\n" * 100_000).encode()
    with pytest.raises(AccessRefused, match="cells"):
        records(body, "csv", limit=100_000, max_bytes=2**24, shown="a.csv")


def test_a_database_of_an_allowed_folder_answers(stored, tmp_path):
    """SQLite files of allowed folders only; a server is never asked at an address of a message."""
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE t (n INTEGER, s TEXT)")
        db.execute("INSERT INTO t VALUES (1, '50%')")
    db.close()
    table = TableSource(stored(tmp_path))
    url = f"sqlite:///{tmp_path / 'a.db'}"
    assert table.collect(Wanted("SELECT * FROM t WHERE s LIKE '50%'", {"url": url})).items == [{"n": 1, "s": "50%"}]
    assert table.collect(Wanted(f"{url}?query=SELECT n FROM t")).items == [{"n": 1}]
    for refused in ("postgresql://h/a?query=SELECT 1", "sqlite:////etc/passwd?query=SELECT 1"):
        with pytest.raises((AccessRefused, InvalidValue)):
            table.collect(Wanted(refused))


def test_your_own_collectors(monkeypatch):
    """An entry point is called with query and parameters; what it raises is its own source's failure."""
    import balance.errors

    entry = EntryPoint("words", f"{__name__}:words", GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: {"words": words, "bad": bad, "none": None}[self.name])
    entries = [entry, EntryPoint("bad", "x:y", GROUP), EntryPoint("none", "x:y", GROUP)]
    custom = CustomSource(clock=FakeClock(), entries=entries)
    assert custom.collect(Wanted("a b", {"collector": "words", "upper": True})).items == ["A", "B"]
    with pytest.raises(SourceUnavailable, match="KeyError"):
        custom.collect(Wanted("a", {"collector": "bad"}))
    with pytest.raises(ConfigurationError, match="can't be called"):
        custom.collect(Wanted("a", {"collector": "none"}))
    with pytest.raises(balance.errors.UnknownId):
        custom.collect(Wanted("a"))


def words(query, parameters):
    return [word.upper() if parameters.get("upper") else word for word in query.split()]


def bad(query, parameters):
    raise KeyError(query)


# -- services with credentials


def test_without_credentials_the_error_says_what_to_set(client):
    """Each of them by the name of its setting."""
    for source, name in (
        (TwitterSource(client), "BALANCE_TWITTER_TOKEN"),
        (TelegramSource(client), "BALANCE_TELEGRAM_TOKEN"),
        (YoutubeSource(client), "BALANCE_YOUTUBE_KEY"),
    ):
        with pytest.raises(ConfigurationError, match=name):
            source.collect(Wanted("cats"))


def test_twitter_pages_through_posts(site, client):
    """Bearer token, next_token, and the limit."""

    def posts(query):
        following = {} if "next_token" in query else {"next_token": "b"}
        return {"data": [{"id": query.get("next_token", "a")}] * 10, "meta": following}

    site.json("/2", posts)
    twitter = TwitterSource(client, token="s3cret", url=f"{site.url}/2")
    found = twitter.collect(Wanted("cats", {"limit": 15}))
    assert [item["id"] for item in found.items] == ["a"] * 10 + ["b"] * 5
    assert site.heard["/2"]["Authorization"] == "Bearer s3cret"
    site.page("/2", b"", 401)
    with pytest.raises(SourceUnavailable, match="401"):
        twitter.collect(Wanted("dogs"))


def test_youtube_finds_videos(site, client):
    """The key goes in a header; items have an address."""
    snippet = {"title": "t", "description": "d", "channelTitle": "c", "publishedAt": "2024-01-01T00:00:00Z"}
    site.json("/v3", {"items": [{"id": {"videoId": "v1"}, "snippet": snippet}]})
    found = YoutubeSource(client, key="s3cret", url=f"{site.url}/v3").collect(Wanted("cats", {"language": "fa"}))
    assert found.items[0]["url"] == "https://www.youtube.com/watch?v=v1"
    assert site.heard["/v3"]["X-Goog-Api-Key"] == "s3cret"


def test_telegram_reads_and_confirms_nothing(site, client):
    """The chat that was asked for, never from the cache; the token is in no error."""
    post = {"message_id": 1, "date": 5, "chat": {"id": -1, "username": "News"}, "text": "a"}
    message = {"message_id": 2, "date": 6, "chat": {"id": 9}, "caption": "b"}
    updates = [{"update_id": 1, "channel_post": post}, {"update_id": 2, "message": message}]
    site.json("/bots3cret/getUpdates", {"ok": True, "result": updates})
    telegram = TelegramSource(client, token="s3cret", url=site.url)
    assert [item["text"] for item in telegram.collect(Wanted("@news")).items] == ["a"]
    assert [item["text"] for item in telegram.collect(Wanted("9")).items] == ["b"]
    assert len(telegram.collect(Wanted("*")).items) == 2
    assert site.asked["/bots3cret/getUpdates"] == 3
    site.page("/bots3cret/getUpdates", b"no json")
    with pytest.raises(SourceUnavailable) as error:
        telegram.collect(Wanted("*"))
    assert "s3cret" not in str(error.value)


def test_aparat_pages_through_videos(site, client):
    """The next page's address is in the answer."""
    forward = f"{site.url}/next"
    video = {"uid": "u", "title": "t", "username": "c", "duration": 5, "visit_cnt": 7, "sdate": "1402"}
    site.json(
        "/api/videoBySearch/text/cat%20food/perpage/3", {"videobysearch": [video] * 2, "ui": {"pagingForward": forward}}
    )
    site.json("/next", {"videobysearch": [video] * 2, "ui": {"pagingForward": ""}})
    found = AparatSource(client, url=f"{site.url}/api").collect(Wanted("cat food", {"limit": 3}))
    assert len(found.items) == 3
    assert found.items[0]["url"] == "https://www.aparat.com/v/u" and found.items[0]["duration_s"] == 5


# -- all of them together


def test_every_source_is_served_and_counted(site, tmp_path):
    """Each word of DataSource has its collector; refusals and failures are counted by their reason."""
    settings = Settings(state_dir=str(tmp_path), allow_private_urls=True, collect_interval_s=0.0)
    collectors = Collectors(settings=settings, clock=FakeClock())
    assert set(collectors.sources) == set(DataSource)
    site.page("/a", "salam", Content_Type="text/plain")
    for _ in range(2):
        collectors.collect("web", f"{site.url}/a")
    for source, query in (("file", "/etc/passwd"), ("twitter", "cats"), ("custom", "x"), ("web", "ftp://a/")):
        with pytest.raises((AccessRefused, ConfigurationError, UnknownId)):
            collectors.collect(source, query)
    with pytest.raises(SourceUnavailable):
        collectors.collect("rss", f"{site.url}/no")
    assert site.asked["/a"] == 1
    assert collectors.stats() == {
        "custom": {"requested": 1, "refused": 1, "refused_UnknownId": 1},
        "file": {"requested": 1, "refused": 1, "refused_AccessRefused": 1},
        "rss": {"requested": 1, "failed": 1},
        "twitter": {"requested": 1, "refused": 1, "refused_ConfigurationError": 1},
        "web": {"requested": 3, "collected": 2, "from_cache": 1, "fetched_bytes": 5, "refused": 1,
                "refused_ConfigurationError": 1},
    }  # fmt: skip


def test_credentials_are_not_shown():
    """Printing the settings shows none of them."""
    shown = repr(Settings(twitter_token="s3cret", telegram_token="s3cret", youtube_key="s3cret"))
    assert "s3cret" not in shown
