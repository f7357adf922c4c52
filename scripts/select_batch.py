"""Choose the next batch and push it: `brushloop select` as a script. See `--help`."""

from ml_backend.cli import main

main("select")
