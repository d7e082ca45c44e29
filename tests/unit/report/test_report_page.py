"""The report is whole, needs nothing else, survives whatever is missing, and escapes whatever is hostile."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.report import charts, summary, summary_lines, write_report
from actors.report.history import plain
from actors.report.page import render

_spec = importlib.util.spec_from_file_location("sample_history", Path(__file__).with_name("sample_history.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

PARTS = [
    "conservation", "models", "demand", "queue", "start_latency", "usage", "actions", "data", "errors", "environment",
]  # fmt: skip
ALL_GAPS = 11  # sections and figures that say so when there is nothing at all
VOID = {"meta", "link", "br", "hr", "img", "input"}


@pytest.fixture
def history() -> dict[str, Any]:
    return _module.sample_history()


class Page(HTMLParser):
    """Collects what a browser would act on: tags, ids, addresses; checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_has_every_section_and_figure(history: dict[str, Any], tmp_path: Path) -> None:
    """Nothing is said to be missing, ids are unique, each figure says what it shows."""
    page = write_report(history, tmp_path / "new" / "folder")
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert "there is no data" not in text.lower()
    assert parsed.tags.count("svg") == 3 + 2 + 2 + 2 + 1
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert all(len(value) > 10 for name, value in parsed.attributes if name == "aria-label" and value != "Models")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_the_page_asks_for_nothing_from_outside(history: dict[str, Any]) -> None:
    """No script, no frame, no address but those within the page; a policy that forbids the rest."""
    parsed = Page(render(plain(history)))
    assert not {"script", "iframe", "link", "object", "img", "form"} & set(parsed.tags)
    addresses = [value for name, value in parsed.attributes if name in {"href", "xlink:href", "src"}]
    assert addresses
    assert all(value.startswith("#") for value in addresses)
    assert any(value.startswith("default-src 'none'") for name, value in parsed.attributes if name == "content")
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_figures_take_the_colours_of_the_page(history: dict[str, Any]) -> None:
    """No placeholder colour is left, none is fixed, and every variable is one that the page defines."""
    text = render(plain(history))
    assert not re.search(r"#0[abc]000\d", text)
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", text)), set(re.findall(r"(--[\w-]+):", text))
    assert used <= defined
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
        assert not re.findall(r"(?:fill|stroke): #\w+", svg)


@pytest.mark.parametrize("missing", PARTS)
def test_a_part_that_is_missing_is_said_to_be(history: dict[str, Any], missing: str) -> None:
    """Whichever part is absent, or of a wrong kind, the rest of the report is there."""
    only = render(plain({missing: history[missing]}))
    gaps = only.lower().count("there is no data")
    assert (gaps, "None were recorded" in only) != (ALL_GAPS, True)
    for broken in (None, 7, "text", [3], {"t_s": "x"}):
        Page(render(plain({missing: broken})))
        summary_lines({missing: broken})


def test_an_empty_history_is_a_report() -> None:
    """Nothing at all: every section says so, and the terminal too."""
    text = render({})
    assert text.lower().count("there is no data") == ALL_GAPS
    assert summary_lines({}) == ["conservation: there is no data"]


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "]]></svg><script>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{$",
    "\x1b[31mred\x00\u202e",
    "[bold red]markup[/]",
    "var(--ink) #0a0001",
    "چندزبانه",
    "x" * 5000,
    "\ud800",
]


def test_a_hostile_name_stays_text(history: dict[str, Any], tmp_path: Path) -> None:
    """As the id of a model, a source, a reason, a message, a key: it is shown, never obeyed."""
    series, row = history["demand"]["anomaly"], history["models"][0]
    history["demand"] = dict.fromkeys(HOSTILE, series)
    history["models"] = [{**row, "model_id": name, "priority": name} for name in HOSTILE]
    history["actions"] = [dict.fromkeys(("action", "subject", "reason"), name) | {"t_s": 1.0} for name in HOSTILE]
    history["data"] = [{"source": name, "requested": 5, "fetched": 2} for name in HOSTILE]
    history["errors"] = [{"where": name, "message": name} for name in HOSTILE]
    history["queue"]["by_priority"] = dict.fromkeys(HOSTILE, history["queue"]["by_priority"]["1"])
    history["start_latency"] = {name: {"p50_s": 0.1, "p99_s": 0.2} for name in HOSTILE}
    history["environment"] = {name: name for name in HOSTILE}
    history["title"] = history["command"] = history["started_at"] = " ".join(HOSTILE[:4])
    parsed = Page(write_report(history, tmp_path).read_text(encoding="utf-8"))
    assert not {"script", "img"} & set(parsed.tags)
    assert not [attribute for attribute, _ in parsed.attributes if attribute.startswith("on")]


def test_a_hostile_name_does_not_reach_the_terminal(history: dict[str, Any], tmp_path: Path) -> None:
    """Escape sequences and markup are shown as text or dropped, in plain lines and in colour."""
    from rich.console import Console

    history["models"] = [{**history["models"][0], "model_id": name} for name in HOSTILE]
    history["errors"] = [{"message": name} for name in HOSTILE]
    assert all(line.isprintable() for line in summary_lines(history))
    with (tmp_path / "terminal").open("w", encoding="utf-8") as file:
        Console(width=200, file=file, force_terminal=True, color_system="standard").print(summary(history))
    shown = (tmp_path / "terminal").read_text(encoding="utf-8")
    assert "[bold red]markup[/]" in shown
    assert "\x1b[31mred" not in shown


def test_the_json_is_the_history(history: dict[str, Any], tmp_path: Path) -> None:
    """What the page shows is there for a program: strict JSON, with a schema's name."""
    history["usage"]["cpu_measured_cores"][3] = float("nan")
    write_report(history, tmp_path)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert read.pop("schema") == "balance-report/1"
    assert read == plain(history)
    assert read["usage"]["cpu_measured_cores"][3] is None


def test_a_broken_conservation_is_loud(history: dict[str, Any]) -> None:
    """A request that is nowhere turns the line red, whatever the history claims about itself."""
    assert "nothing lost" in render(plain(history))
    history["conservation"]["completed"] -= 2
    text = render(plain(history))
    assert "nothing lost" not in text
    assert "2 unaccounted for" in text
    assert "DOES NOT HOLD, 2 unaccounted for" in summary_lines(history)[0]


def test_a_store_that_says_it_does_not_hold_is_believed(history: dict[str, Any]) -> None:
    """The sums agree but the store's own check failed: no all-clear."""
    history["conservation"]["holds"] = False
    assert "nothing lost" not in render(plain(history))


def test_the_same_history_gives_the_same_page(history: dict[str, Any]) -> None:
    """No time, no chance in the rendering."""
    assert render(plain(history)) == render(plain(history))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["t_s", "p50_s", "p99_s", "by_priority", "accepted", "executed", "1", "actual_per_s", "action"]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*PARTS, "title", "duration_s", "started_at"]), VALUES, max_size=6))
def test_no_history_crashes_the_summary(history: dict[str, Any]) -> None:
    """Any JSON-like dict has a summary."""
    assert summary_lines(history)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*PARTS, "title", "duration_s", "started_at"]), VALUES, max_size=4))
def test_no_history_crashes_the_page(history: dict[str, Any]) -> None:
    """Any JSON-like dict has a page."""
    Page(render(plain(history)))


@pytest.mark.parametrize("values", [[0, 0, 0], [1e-300, 2e-300, 0], [1e300, 1, 2], [None, 1, 2], [-5, -1, -2]])
def test_extreme_numbers_are_drawn(values: list[float | None]) -> None:
    """All zero, tiny, huge, gaps, negative: a figure without a warning."""
    assert charts.queue({"queue": {"t_s": [0, 1, 2], "by_priority": {"1": values}}})
    assert charts.usage({"usage": {"t_s": [0, 1, 2], "cpu_measured_cores": values}}, "cpu")


def test_two_points_are_needed_for_a_line() -> None:
    """One reading, or none, is no data."""
    assert charts.usage({"usage": {"t_s": [0], "cpu_measured_cores": [1]}}, "cpu") is None
