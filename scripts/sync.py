"""Pull finished annotations: `brushloop sync` as a script. See `--help`."""

from ml_backend.cli import main

main("sync")
