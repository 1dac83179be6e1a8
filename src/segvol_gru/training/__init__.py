"""Training: examples, rounds of clicks on the model's own errors, losses, the loop."""
