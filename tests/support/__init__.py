"""What several test rooms share: a real Label Studio, a tiny backend, a real browser."""
