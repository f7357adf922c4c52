"""Commands as a shell would call them, in this process."""

import pytest
from typer.testing import CliRunner

from ml_backend.cli import app, main


def run(*words):
    """What a command prints, when it ends well."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def complaint(*words):
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        main(*words)
    line = str(caught.value.code)
    assert line.startswith("brushloop: ")
    assert "\n" not in line
    return line
