"""Pixels and how they are written down (numpy only)."""
