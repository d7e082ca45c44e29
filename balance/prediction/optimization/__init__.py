"""Making forecasts better: choosing and weighing methods, and watching how they do."""

from balance.prediction.optimization.prediction_tuner import PredictionTuner

__all__ = ["PredictionTuner"]
