"""Write masks as PNG and COCO: `brushloop export` as a script. See `--help`."""

from ml_backend.cli import main

main("export")
