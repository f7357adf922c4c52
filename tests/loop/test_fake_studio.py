"""The fake Label Studio behaves like the real one in whatever the loop relies on."""

import itertools

import pytest
from support.fake_studio import FakeStudio
from support.label_studio import LabelStudio
from support.tasks import LABEL_CONFIG, png, region

from ml_backend.errors import ImageUnreadable, StudioRefused
from ml_backend.studio.client import Studio

_numbers = itertools.count(1)


class RealStudio(Studio):
    """The client, with what a person does in the browser."""

    def skip(self, task_id):
        """Press Skip."""
        body = {"result": [], "was_cancelled": True}
        return self._http.json("POST", f"/api/tasks/{task_id}/annotations/", body=body)["id"]

    def edit_annotation(self, annotation_id, result):
        """Press Update."""
        self._http.json("PATCH", f"/api/annotations/{annotation_id}/", body={"result": result})

    def set_ground_truth(self, annotation_id, value=True):
        """Press the star."""
        body = {"ground_truth": value}
        self._http.json("PATCH", f"/api/annotations/{annotation_id}/", body=body)

    def take_back_skip(self, annotation_id):
        """Press Cancel skip."""
        body = {"was_cancelled": False}
        self._http.json("PATCH", f"/api/annotations/{annotation_id}/", body=body)

    def delete_annotation(self, annotation_id):
        """Delete."""
        self._http.json("DELETE", f"/api/annotations/{annotation_id}/")

    def delete_task(self, task_id):
        """Delete."""
        self._http.json("DELETE", f"/api/tasks/{task_id}/")


class SkippingFake(FakeStudio):
    """The fake under the same names."""

    def skip(self, task_id):
        """Press Skip."""
        return self.create_annotation(task_id, [], was_cancelled=True)


class Conformance:
    """The suite; a subclass gives `studio`."""

    @pytest.fixture
    def project(self, studio):
        """Make an empty project."""
        return studio.create_project(f"conformance {next(_numbers)}", LABEL_CONFIG)

    @pytest.fixture
    def tasks(self, studio, project):
        """Make three tasks of one round, the first with a prediction."""
        (url,) = studio.upload_images(project.id, [("a.png", png(2))])
        prediction = {"result": [region()], "score": 0.5, "model_version": "v1"}
        new = [{"data": {"image": url, "tile": n, "round": 4}} for n in range(3)]
        new[0]["predictions"] = [prediction]
        return studio.import_tasks(project.id, new)

    def last(self, studio, project):
        """The watermark now."""
        return [task.updated_at for task in studio.changed_tasks(project.id)][-1]

    def changed(self, studio, project, since):
        """Ids of what changed later."""
        return [task.id for task in studio.changed_tasks(project.id, since)]

    def test_projects_are_found_and_counted(self, studio, project, tasks):
        """Title, config and number of tasks come back; an unknown project is refused."""
        found = studio.find_project(project.title)
        assert (found.id, found.label_config) == (project.id, LABEL_CONFIG)
        assert studio.get_project(project.id).task_count == len(tasks)
        assert studio.find_project("nobody has this") is None
        with pytest.raises(StudioRefused):
            studio.get_project(10**8)

    def test_uploaded_files_come_back(self, studio, project):
        """Files of one name stay two, in their order; what is not there is unreadable."""
        files = [("a.png", png(2, grey=1)), ("a.png", png(2, grey=9))]
        urls = studio.upload_images(project.id, files)
        assert len(set(urls)) == 2
        assert [studio.download(url, limit=10**6) for url in urls] == [data for _, data in files]
        with pytest.raises(ImageUnreadable):
            studio.download(urls[0], limit=3)
        with pytest.raises(ImageUnreadable):
            studio.download("/data/upload/1/none.png", limit=10**6)

    def test_tasks_keep_what_they_were_given(self, studio, project, tasks):
        """Ids in order, data and predictions whole, and a round finds its tasks."""
        assert studio.task_ids(project.id) == set(tasks)
        assert [studio.get_task(number).data["tile"] for number in tasks] == [0, 1, 2]
        (prediction,) = studio.get_task(tasks[0]).predictions
        assert (prediction["result"], prediction["model_version"]) == ([region()], "v1")
        assert {task.id for task in studio.tasks_of_round(project.id, 4)} == set(tasks)
        assert list(studio.tasks_of_round(project.id, 5)) == []

    def test_predictions_come_when_asked_for(self, studio, project, tasks):
        """A pull without predictions has none, one with them has all their fields."""
        plain = {task.id: task for task in studio.changed_tasks(project.id)}
        full = {task.id: task for task in studio.changed_tasks(project.id, predictions=True)}
        assert plain[tasks[0]].predictions == ()
        (row,) = full[tasks[0]].predictions
        assert {"id", "result", "score", "model_version", "created_at"} <= row.keys()

    def test_annotating_moves_the_clock(self, studio, project, tasks):
        """Creating, skipping, editing and deleting an annotation are changes of its task."""
        since = self.last(studio, project)
        made = studio.create_annotation(tasks[1], [region()], lead_time=2.5)
        assert self.changed(studio, project, since) == [tasks[1]]
        since = self.last(studio, project)
        studio.skip(tasks[2])
        (task,) = studio.changed_tasks(project.id, since)
        assert [row["was_cancelled"] for row in task.annotations] == [True]
        since = task.updated_at
        studio.edit_annotation(made, [region("other")])
        (task,) = studio.changed_tasks(project.id, since)
        (row,) = task.annotations
        assert (row["id"], row["result"], row["lead_time"]) == (made, [region("other")], 2.5)
        assert row["created_at"] < row["updated_at"]
        since = task.updated_at
        studio.delete_annotation(made)
        (task,) = studio.changed_tasks(project.id, since)
        assert task.annotations == ()

    def test_only_one_annotation_of_a_task_has_the_star(self, studio, project, tasks):
        """It goes out silently where another gets it: the task has changed, the loser has not."""
        first = studio.create_annotation(tasks[1], [region()], lead_time=1.0)
        second = studio.create_annotation(tasks[1], [region()], lead_time=1.0)
        studio.set_ground_truth(first)
        (before, _) = self.annotations(studio, tasks[1])
        since = self.last(studio, project)
        studio.set_ground_truth(second)
        assert self.changed(studio, project, since) == [tasks[1]]
        (loser, winner) = self.annotations(studio, tasks[1])
        assert (before["ground_truth"], loser["ground_truth"], winner["ground_truth"]) == (
            True,
            False,
            True,
        )
        assert before["updated_at"] == loser["updated_at"]
        studio.set_ground_truth(second, value=False)
        assert not any(row["ground_truth"] for row in self.annotations(studio, tasks[1]))

    def test_a_skip_can_be_taken_back(self, studio, project, tasks):
        """The annotation changes, and counts again."""
        made = studio.skip(tasks[1])
        ((before,), since) = self.annotations(studio, tasks[1]), self.last(studio, project)
        studio.take_back_skip(made)
        assert self.changed(studio, project, since) == [tasks[1]]
        (after,) = self.annotations(studio, tasks[1])
        assert (before["was_cancelled"], after["was_cancelled"]) == (True, False)
        assert before["updated_at"] < after["updated_at"]

    def annotations(self, studio, task_id):
        """What a task has, by id."""
        return sorted(studio.get_task(task_id).annotations, key=lambda row: row["id"])

    def test_many_predictions_move_no_clock(self, studio, project, tasks):
        """Predictions imported in bulk are stored, but no change."""
        since = self.last(studio, project)
        rows = [
            {"task": number, "result": [region()], "score": 0.25, "model_version": "v2"}
            for number in tasks
        ]
        studio.post_predictions(project.id, rows)
        assert [p["model_version"] for p in studio.get_task(tasks[1]).predictions] == ["v2"]
        assert self.changed(studio, project, since) == []

    def test_few_predictions_move_the_clock(self, studio, project, tasks):
        """One prediction in a project of many tasks is posted singly, which is a change."""
        more = [{"data": {"image": "/none.png"}} for _ in range(60)]
        studio.import_tasks(project.id, more)
        since = self.last(studio, project)
        row = {"task": tasks[0], "result": [region()], "score": 0.5, "model_version": "v3"}
        studio.post_predictions(project.id, [row])
        assert self.changed(studio, project, since) == [tasks[0]]

    def test_deleted_tasks_are_simply_gone(self, studio, project, tasks):
        """No change tells of them; count and ids do."""
        since = self.last(studio, project)
        studio.delete_task(tasks[0])
        assert self.changed(studio, project, since) == []
        assert studio.task_ids(project.id) == set(tasks[1:])
        assert studio.get_project(project.id).task_count == 2


class TestFake(Conformance):
    """The suite over the fake."""

    @pytest.fixture
    def studio(self):
        """Give a fake of one's own."""
        return SkippingFake()


@pytest.mark.studio
class TestReal(Conformance):
    """The suite over a real Label Studio."""

    @pytest.fixture
    def studio(self, label_studio: LabelStudio):
        """Give a client of the real one."""
        with RealStudio(label_studio.url, label_studio.personal_token) as client:
            yield client
