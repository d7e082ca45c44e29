"""Series over time: their history, forecasts and anomalies.  numpy and statsmodels, no I/O."""
