"""`PrometheusMetrics` and `RayMetrics`: all figures of a report or none, and a scrape of what was written."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from balance.adapters.external import figures
from balance.adapters.external.prometheus_metrics import PrometheusMetrics
from balance.adapters.external.ray_metrics import RayMetrics
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable

REPORT = {
    "queued": [{"value": 3, "tags": {"model": "a"}}, {"value": 0, "tags": {"model": 'b "\n'}}],
    "answers": {"value": 2, "kind": "counter", "description": "Answers given."},
    "load": 0.5,
}


@pytest.fixture(params=[PrometheusMetrics, RayMetrics])
def metrics(request):
    return request.param()


def test_gauges_stand_and_counters_grow(metrics):
    """A gauge is what was reported last, a counter the sum."""
    metrics.report_metrics(REPORT)
    metrics.report_metrics({"answers": {"value": 0, "kind": "counter"}, "load": -1})
    metrics.report_metrics({"answers": {"value": 5, "kind": "counter"}})
    assert metrics.collect_metrics() == {
        "answers": [{"value": 7.0, "kind": "counter", "tags": {}}],
        "load": [{"value": -1.0, "kind": "gauge", "tags": {}}],
        "queued": [
            {"value": 3.0, "kind": "gauge", "tags": {"model": "a"}},
            {"value": 0.0, "kind": "gauge", "tags": {"model": 'b "\n'}},
        ],
    }


@pytest.mark.parametrize(
    ("report", "error"),
    [
        (None, InvalidValue),
        ({"x": float("nan")}, InvalidValue),
        ({"x": "1,5"}, InvalidValue),
        ({"x": {}}, InvalidValue),
        ({"x": {"value": 1, "unit": "s"}}, InvalidValue),
        ({"x": {"value": 1, "kind": "histogram"}}, InvalidValue),
        ({"x": {"value": -1, "kind": "counter"}}, InvalidValue),
        ({"x": {"value": 1, "tags": {"a-b": "c"}}}, InvalidValue),
        ({"x": {"value": 1, "tags": {"a": 1}}}, InvalidValue),
        ({"1x": 1}, InvalidValue),
        ({"x_total": 1}, InvalidValue),
        ({"load": {"value": 1, "kind": "counter"}}, Conflict),
        ({"load": {"value": 1, "tags": {"a": "b"}}}, Conflict),
        ({"x": [{"value": 1}, {"value": 1, "tags": {"a": "b"}}]}, Conflict),
    ],
)
def test_a_wrong_figure_reports_none(metrics, report, error):
    """Neither it nor those beside it."""
    metrics.report_metrics(REPORT)
    before = metrics.collect_metrics()
    with pytest.raises(error):
        metrics.report_metrics({"new": 1, "load": 9, **report} if report else report)
    assert metrics.collect_metrics() == before


def test_series_are_bounded(metrics, monkeypatch):
    """A tag of unbounded values is refused and does not take all memory."""
    monkeypatch.setattr(figures, "MAX_SERIES", 2)
    with pytest.raises(InvalidValue, match="3 series"):
        metrics.report_metrics({"x": [{"value": 1, "tags": {"id": str(n)}} for n in range(3)]})
    metrics.report_metrics({"x": [{"value": 1, "tags": {"id": str(n % 2)}} for n in range(3)]})


@pytest.fixture
def exporter():
    """Serves `text` at its URL."""

    class Handler(BaseHTTPRequestHandler):
        text = ""

        def do_GET(self):
            body = Handler.text.encode()
            self.send_response(200 if body else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Handler.url = f"http://127.0.0.1:{server.server_port}/metrics"
    yield Handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_one_writes_another_scrapes(exporter):
    """The exposition is read back with every value, kind and tag, quotes and newlines included."""
    writer = PrometheusMetrics()
    writer.report_metrics(REPORT)
    exporter.text = writer.exposition()
    assert "# HELP answers_total Answers given." in exporter.text
    found = PrometheusMetrics(url=exporter.url, allow_private=True).collect_metrics()
    assert found == {
        "answers_total": [{"value": 2.0, "kind": "counter", "tags": {}}],
        "load": writer.collect_metrics()["load"],
        "queued": writer.collect_metrics()["queued"],
    }


def test_values_that_json_has_no_word_for(exporter):
    """NaN and infinity are None; a histogram's buckets keep their bounds."""
    exporter.text = '# TYPE h histogram\nh_bucket{le="+Inf"} 2\nh_sum NaN\nh_count 2\n# TYPE g gauge\ng +Inf\n'
    found = PrometheusMetrics(url=exporter.url, allow_private=True).collect_metrics()
    assert found["h_bucket"] == [{"value": 2.0, "kind": "histogram", "tags": {"le": "+Inf"}}]
    assert (found["h_sum"][0]["value"], found["g"][0]["value"]) == (None, None)


def test_exporters_that_do_not_deliver(exporter):
    """Nonsense, no answer, a private address that is not allowed, a URL that is none."""
    metrics = PrometheusMetrics(url=exporter.url, allow_private=True)
    for text in ("<html>{", ""):
        exporter.text = text
        with pytest.raises(SourceUnavailable):
            metrics.collect_metrics()
    with pytest.raises(AccessRefused):
        PrometheusMetrics(url=exporter.url).collect_metrics()
    with pytest.raises(AccessRefused):
        PrometheusMetrics(url="file:///etc/passwd")
