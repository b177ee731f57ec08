"""How many requests a second, how soon, at what CPU and memory: this deployment beside others."""
