"""What learns, where it came from, and how the rest is kept still."""
