"""The steps by name. A job is one of these names and a project's id.

Each step is `f(context, project_id, progress) -> Report`; it may be run at any time, does
only what is missing, and says in `Report.follow` which steps its outcome calls for.
"""

import time
from collections.abc import Callable

from ml_backend.errors import BrushloopError
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.predict import predict
from ml_backend.loop.pretrain import pretrain
from ml_backend.loop.score import score
from ml_backend.loop.select import select
from ml_backend.loop.sync import sync
from ml_backend.loop.train import train
from ml_backend.registry import Registry

Step = Callable[[Context, int, Progress], Report]
STEPS: Registry[Step] = Registry("step")


def _recorded(name: str, step: Step) -> Step:
    """Keep how long every run took and how it ended."""

    def run(context: Context, project_id: int, progress: Progress) -> Report:
        context.catalog.projects.get(project_id)
        run_id = context.catalog.models.start_run(project_id, name)
        began = time.monotonic()
        try:
            report = step(context, project_id, progress)
        except BaseException as error:
            text = str(error) if isinstance(error, BrushloopError) else repr(error)
            context.catalog.models.end_run(
                run_id,
                state="failed",
                seconds=time.monotonic() - began,
                report={"error": text},
            )
            raise
        context.catalog.models.end_run(
            run_id,
            state="done",
            seconds=time.monotonic() - began,
            report={"summary": report.summary} | report.numbers,
        )
        return report

    return run


for _name, _step in (
    ("sync", sync),
    ("pretrain", pretrain),
    ("train", train),
    ("score", score),
    ("select", select),
    ("predict", predict),
):
    STEPS.register(_name)(_recorded(_name, _step))
