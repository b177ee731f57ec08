"""What the workers' memory is, and how much of it they share."""
