"""The world outside behind `balance.interfaces.external`: HTTP, a message broker, metrics."""
