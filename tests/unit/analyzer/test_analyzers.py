"""The analyzers count what happened, and judge only where the numbers carry a judgement."""

from __future__ import annotations

import json

import pytest

from balance.clock import FakeClock
from balance.core.analyzer import DistributionAnalyzer, ImpactAnalyzer, QualityAnalyzer, RequirementAnalyzer
from balance.errors import InvalidValue

HUGE = float("1e400")
NAN = float("nan")


def requirement(**kwargs: object) -> tuple[RequirementAnalyzer, FakeClock]:
    clock = FakeClock()
    return RequirementAnalyzer(clock=clock, **kwargs), clock  # type: ignore[arg-type]


def test_needs_summarise_sizes_rate_and_shares() -> None:
    """Sizes, rate and shares are those of the list; timestamps may be ISO or POSIX, mixed and unordered."""
    analyzer, _ = requirement()
    needs = analyzer.analyze_needs(
        "m",
        [
            {"data_size": 300, "timestamp": 1010.0, "data_type": "text", "source_type": "web"},
            {"data_size": 100, "timestamp": "1970-01-01T00:16:40Z", "data_type": "text", "priority": 1},
            {"data_size": 200, "timestamp": 1005, "data_type": "image", "source_type": "web"},
        ],
    )
    assert (needs["request_count"], needs["total_bytes"], needs["mean_bytes"]) == (3, 600, 200.0)
    assert (needs["p50_bytes"], needs["span_s"], needs["rate_per_s"]) == (200.0, 10.0, 0.2)
    assert list(needs["share_by_type"]) == ["text", "image"]
    assert needs["share_by_source"] == {"web": pytest.approx(2 / 3), "unknown": pytest.approx(1 / 3)}
    assert needs["unmet_bytes"] == 600
    json.dumps(needs, allow_nan=False)


def test_urgency_grows_with_priority_and_with_what_is_unmet() -> None:
    """Nothing met and all critical is 1; all met is 0."""
    analyzer, _ = requirement()
    critical = [{"data_size": 100, "priority": 1}]
    background = [{"data_size": 100, "priority": 9}]
    assert analyzer.analyze_needs("m", critical)["urgency"] == 1.0
    assert analyzer.analyze_needs("m", background)["urgency"] == pytest.approx(0.2)
    analyzer.log_data_request("m", 100)
    assert analyzer.analyze_needs("m", critical)["urgency"] == 0.0


def test_shortage_looks_at_the_horizon_only() -> None:
    """What a model got before the horizon no longer feeds it."""
    analyzer, clock = requirement(horizon_s=60.0)
    analyzer.log_data_request("m", 500)
    assert not analyzer.detect_data_shortage("m", 500)
    clock.advance(61)
    assert analyzer.detect_data_shortage("m", 500)


def test_once_deliveries_are_reported_only_they_count() -> None:
    """A request that was not delivered does not feed a model whose deliveries are known."""
    analyzer, _ = requirement()
    analyzer.log_data_request("m", 500)
    analyzer.log_data_received("m", 100)
    assert analyzer.detect_data_shortage("m", 101)
    assert not analyzer.detect_data_shortage("m", 100)


def test_no_requests_is_a_status_and_an_unseen_model_received_nothing() -> None:
    """Emptiness is an answer, not an error."""
    analyzer, _ = requirement()
    needs = analyzer.analyze_needs("m", [])
    assert (needs["status"], needs["mean_bytes"], needs["rate_per_s"]) == ("no_requests", 0.0, None)
    assert analyzer.detect_data_shortage("never seen", 1)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        "x",
        {"data_size": -1},
        {"data_size": NAN},
        {"data_size": 1, "timestamp": "noon"},
        {"data_size": 1, "priority": 0},
    ],
)
def test_a_bad_request_raises(request_: object) -> None:
    """A request that can't be read names its mistake."""
    with pytest.raises(InvalidValue):
        requirement()[0].analyze_needs("m", [request_])  # type: ignore[list-item]


def test_events_are_bounded() -> None:
    """The oldest events go first, so memory stays bounded."""
    analyzer, _ = requirement(max_events=3)
    for _ in range(10):
        analyzer.log_data_request("m", 10)
    assert not analyzer.detect_data_shortage("m", 30)
    assert analyzer.detect_data_shortage("m", 31)


def test_an_even_distribution_is_even() -> None:
    """The same for all: Gini 0, variation 0, ratio 1, nobody outside."""
    analyzer = DistributionAnalyzer()
    for model in "abc":
        analyzer.log_data_usage(model, 50)
    got = analyzer.analyze_distribution()
    assert (got["gini"], got["coefficient_of_variation"], got["max_mean_ratio"]) == (0.0, 0.0, 1.0)
    assert (got["over_served"], got["starved"], analyzer.detect_imbalance()) == ([], [], [])


def test_one_model_with_everything_is_over_served_and_the_rest_starve() -> None:
    """One of four with all of it: Gini (n - 1) / n."""
    analyzer = DistributionAnalyzer()
    for model, size in [("a", 0), ("b", 0), ("c", 0), ("d", 400)]:
        analyzer.log_data_usage(model, size)
    got = analyzer.analyze_distribution()
    assert got["gini"] == pytest.approx(0.75)
    assert (got["over_served"], got["starved"]) == (["d"], ["a", "b", "c"])
    assert next(iter(got["share_by_model"].items())) == ("d", 1.0)
    json.dumps(got, allow_nan=False)


def test_nothing_used_is_no_imbalance() -> None:
    """No models, or models without a byte, divide by nothing."""
    analyzer = DistributionAnalyzer()
    assert analyzer.analyze_distribution()["status"] == "no_usage"
    analyzer.log_data_usage("a", 0)
    assert analyzer.detect_imbalance() == []
    for bad in (0.5, NAN, HUGE):
        with pytest.raises(InvalidValue):
            analyzer.detect_imbalance(bad)


def test_few_records_do_not_condemn_a_model() -> None:
    """At the same ratio, only the model with enough records is listed."""
    analyzer = QualityAnalyzer()
    analyzer.log_data_quality("few", 10, 2, 0.0)
    analyzer.log_data_quality("many", 1000, 200, 0.0)
    assert analyzer.detect_low_quality_models() == ["many"]


def test_noise_is_weighted_by_records() -> None:
    """Ten noisy records weigh a tenth of a hundred clean ones."""
    analyzer = QualityAnalyzer()
    analyzer.log_data_quality("m", 100, 0, 0.0)
    analyzer.log_data_quality("m", 10, 0, 1.0)
    assert analyzer.analyze_quality()["models"]["m"]["noise"] == pytest.approx(10 / 110)
    assert analyzer.detect_low_quality_models() == []
    assert analyzer.detect_low_quality_models(noise_threshold=0.05) == ["m"]


def test_a_bad_quality_record_leaves_the_totals_alone() -> None:
    """More invalid than total, or noise above 1, raises and changes nothing."""
    analyzer = QualityAnalyzer()
    for args in [("m", 5, 6, 0.0), ("m", 5, 1, 1.5), ("m", 5, 1, NAN), ("", 5, 1, 0.0), ("m", -1, 0, 0.0)]:
        with pytest.raises(InvalidValue):
            analyzer.log_data_quality(*args)
    got = analyzer.analyze_quality()
    assert (got["status"], got["total_records"], got["models"]) == ("no_records", 0, {})
    assert (got["invalid_ratio_low"], got["invalid_ratio_high"]) == (0.0, 1.0)


def test_effects_that_cancel_out_still_count() -> None:
    """+50 % and -50 % average to nothing, yet the model is listed."""
    analyzer = ImpactAnalyzer()
    analyzer.log_impact("m", 50.0, 10, 0.0)
    analyzer.log_impact("m", -50.0, 30, 0.1)
    got = analyzer.analyze_impact()["models"]["m"]
    assert (got["performance_change_percent"], got["performance_size_percent"]) == (0.0, 50.0)
    assert (got["resource_usage"], got["resource_usage_max"]) == (20.0, 30)
    assert analyzer.detect_high_impact_models() == ["m"]


@pytest.mark.parametrize(
    ("effect", "listed"),
    [((5.0, 1000, 0.2), False), ((5.1, 0, 0.0), True), ((0.0, 1001, 0.0), True), ((0.0, 0, -0.3), True)],
)
def test_any_one_threshold_is_enough(effect: tuple[float, int, float], listed: bool) -> None:
    """A model is listed above any threshold, not at it."""
    analyzer = ImpactAnalyzer()
    analyzer.log_impact("m", *effect)
    assert analyzer.detect_high_impact_models() == (["m"] if listed else [])


def test_a_bad_impact_leaves_the_sums_alone() -> None:
    """NaN, a negative usage or an impossible shift raises and changes nothing."""
    analyzer = ImpactAnalyzer()
    for args in [("m", NAN, 1, 0.0), ("m", 1.0, -1, 0.0), ("m", 1.0, 1, 1.5), ("", 1.0, 1, 0.0)]:
        with pytest.raises(InvalidValue):
            analyzer.log_impact(*args)
    assert analyzer.analyze_impact() == {"status": "no_decisions", "decisions": 0, "models": {}}
