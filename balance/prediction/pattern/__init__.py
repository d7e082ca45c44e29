"""How a model is used: its level and rhythm, where it is heading, and what is unlike it."""

from balance.prediction.pattern.behavior_analyzer import BehaviorAnalyzer
from balance.prediction.pattern.trend_detector import TrendDetector
from balance.prediction.pattern.usage_analyzer import UsageAnalyzer

__all__ = ["BehaviorAnalyzer", "TrendDetector", "UsageAnalyzer"]
