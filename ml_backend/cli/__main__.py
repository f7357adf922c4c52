"""`python -m ml_backend.cli`, for machines where the command is not on the PATH."""

from ml_backend.cli import main

main()
