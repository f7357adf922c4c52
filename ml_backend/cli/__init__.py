"""`brushloop …`: parse, call one step, print."""

import sys

import typer

app = typer.Typer(
    name="brushloop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Brush labels in Label Studio that learn from the people who use it.",
)


def main(*command: str) -> None:
    """Run a command; what Brushloop raises on purpose becomes one line and exit code 1.

    `command` stands before the arguments of the process; the scripts fix theirs so.
    """
    from ml_backend.errors import BrushloopError

    try:
        app([*command, *sys.argv[1:]], prog_name="brushloop" if command else None)
    except BrushloopError as error:
        sys.exit(f"brushloop: {error}")


from ml_backend.cli import (  # noqa: E402
    curves,  # noqa: F401
    effort,  # noqa: F401
    inspecting,  # noqa: F401
    manage,  # noqa: F401
    pretraining,  # noqa: F401
    processes,  # noqa: F401
    projects,  # noqa: F401
    sheets,  # noqa: F401
    simulating,  # noqa: F401
    steps,  # noqa: F401
    tuning,  # noqa: F401
)
