"""Arrays in, weights or probabilities out (torch; no files but those handed in, no clock)."""
