"""What is remembered: the only room with SQL and file systems."""
