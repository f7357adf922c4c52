"""The record of what was run: how long it took, and how it ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_backend.errors import BrushloopError
from ml_backend.loop.context import Context


@contextmanager
def recorded(context: Context, project_id: int, step: str) -> Iterator[dict[str, Any]]:
    """Note in the catalog that a step runs, and at the end what it put into the report."""
    report: dict[str, Any] = {}
    models = context.catalog.models
    run_id = models.start_run(project_id, step)
    began = time.monotonic()
    try:
        yield report
    except BaseException as error:
        text = str(error) if isinstance(error, BrushloopError) else repr(error)
        seconds = time.monotonic() - began
        models.end_run(run_id, state="failed", seconds=seconds, report={"error": text})
        raise
    models.end_run(run_id, state="done", seconds=time.monotonic() - began, report=report)
