"""The commands, the processes they start, and terminal output."""
