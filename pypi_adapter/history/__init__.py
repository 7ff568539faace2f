"""What was observed of a project, and what it was at an instant."""
