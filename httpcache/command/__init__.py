"""Commands, the processes that they start, and what a terminal shows."""
