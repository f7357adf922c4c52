"""The order in which a real Label Studio serves the tasks of a batch."""

import httpx
import pytest

from ml_backend.host.up import Running
from ml_backend.jobs.queues import Jobs
from ml_backend.loop.context import Context

from .test_loop import wait

pytestmark = [pytest.mark.studio, pytest.mark.timeout(900)]
FEW = 4  # tasks: fewer would be served in the right order by chance


def open_scores(context: Context, house: Running, version: str) -> dict[int, float]:
    """Open task → the confidence of this version, for those that show its prediction."""
    found = {}
    for task in context.catalog.work.tasks(house.project.id, open_only=True):
        for row in context.studio.get_task(task.id).predictions:
            if row["model_version"] == version:
                found[task.id] = row["score"]
    return found


def test_label_all_tasks_begins_with_the_most_uncertain(context: Context, house: Running) -> None:
    """After a selection the task with the lowest confidence comes first, whatever its number."""
    project_id, jobs = house.project.id, Jobs(house.settings, patient=True)

    def idle() -> bool:
        return not any(view.state in ("queued", "running") for view in jobs.overview(project_id))

    wait(idle, "the end of earlier jobs")
    if len(context.catalog.work.tasks(project_id, open_only=True)) < FEW:
        jobs.request("select", project_id)
        wait(idle, "another batch")
    shown = context.studio.get_project(project_id).model_version
    assert shown == context.catalog.models.current(project_id).version
    scores = open_scores(context, house, shown)
    assert len(set(scores.values())) >= FEW - 1
    answer = httpx.post(
        f"{house.studio_url}/api/dm/actions",
        params={"id": "next_task", "project": project_id},
        headers={"Authorization": f"Token {house.secrets.studio_token}"},
        json={},
        timeout=60,
        trust_env=False,
    )
    answer.raise_for_status()
    assert scores[answer.json()["id"]] == min(scores.values())
    assert "Active learning" in answer.json()["queue"]
