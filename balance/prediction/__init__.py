"""Forecasts of demand, on top of `balance.timeseries`."""
