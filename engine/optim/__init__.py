"""How a step is taken once its gradient is known."""
