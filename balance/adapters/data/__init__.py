"""Data behind `balance.interfaces.data`: what the data coordinator and fsspec reach."""
