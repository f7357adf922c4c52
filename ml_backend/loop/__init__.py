"""The steps of a round. Each may be run again at any time and does only what is missing."""
