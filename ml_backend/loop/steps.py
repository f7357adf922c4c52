"""The steps by name. A job is one of these names and a project's id.

Each step is `f(context, project_id, progress) -> Report`; it may be run at any time, does
only what is missing, and says in `Report.follow` which steps its outcome calls for.
"""

from collections.abc import Callable

from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.predict import predict
from ml_backend.loop.pretrain import pretrain
from ml_backend.loop.runs import recorded
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
        with recorded(context, project_id, name) as record:
            report = step(context, project_id, progress)
            record.update({"summary": report.summary} | report.numbers)
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
