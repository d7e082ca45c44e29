"""Making forecasts better: choosing and weighing methods, and watching how they do."""

from balance.prediction.optimization.accuracy_monitor import AccuracyMonitor
from balance.prediction.optimization.model_optimizer import ModelOptimizer
from balance.prediction.optimization.prediction_tuner import PredictionTuner
from balance.prediction.optimization.referee import Referee

__all__ = ["AccuracyMonitor", "ModelOptimizer", "PredictionTuner", "Referee"]
