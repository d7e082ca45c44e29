"""What will be asked for: requests, the resources behind them, and the data that models need."""

from balance.prediction.demand.cpu_budget import CpuBudget
from balance.prediction.demand.forecast_book import ForecastBook
from balance.prediction.demand.load_predictor import LoadPredictor
from balance.prediction.demand.model_needs_predictor import ModelNeedsPredictor
from balance.prediction.demand.resource_predictor import ResourcePredictor

__all__ = ["CpuBudget", "ForecastBook", "LoadPredictor", "ModelNeedsPredictor", "ResourcePredictor"]
