"""Networks that learn the task, with gradients written by hand, and their training."""
