"""What goes from one mirror to another in a file."""
