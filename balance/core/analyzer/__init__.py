"""What happened so far, per model: what was asked for, who got it, how good it was, what it changed."""

from balance.core.analyzer.distribution_analyzer import DistributionAnalyzer
from balance.core.analyzer.impact_analyzer import ImpactAnalyzer
from balance.core.analyzer.quality_analyzer import QualityAnalyzer
from balance.core.analyzer.requirement_analyzer import RequirementAnalyzer

__all__ = ["DistributionAnalyzer", "ImpactAnalyzer", "QualityAnalyzer", "RequirementAnalyzer"]
