"""Label Studio's contract and metrics over HTTP."""
