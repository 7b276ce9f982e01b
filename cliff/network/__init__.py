"""Networks that learn the task: the model (`reference`), fast networks, and their training."""
