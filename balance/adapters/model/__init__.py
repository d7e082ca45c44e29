"""Models behind `balance.interfaces.model`: asked through Ray, over HTTP or over a topic."""
