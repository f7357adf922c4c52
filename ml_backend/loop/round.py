"""The loop of a round, as it reads in the README.

In service each step is a job that asks for the next one (`Report.follow`); here they run
one after another, for `brushloop` commands without a worker and for reading.
"""

from collections import deque

from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.steps import STEPS


def run_round(context: Context, project_id: int, progress: Progress) -> list[Report]:
    """Pull what people finished, and do whatever follows from it, until nothing does.

    sync ──▶ train ──gate──▶ predict ──▶ score ──▶ select (choose, push)
    """
    waiting, reports = deque(["sync"]), []
    while waiting:
        report = STEPS[waiting.popleft()](context, project_id, progress)
        reports.append(report)
        waiting.extend(step for step in report.follow if step not in waiting)
    return reports
