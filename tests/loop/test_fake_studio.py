"""The fake Label Studio behaves like the real one in whatever the loop relies on."""

import itertools
from datetime import datetime, timedelta

import pytest
from support.fake_studio import FakeStudio
from support.label_studio import LabelStudio
from support.person import PersonsStudio
from support.studio_server import LEGACY, StudioServer
from support.tasks import LABEL_CONFIG, png, region

from ml_backend.errors import ImageUnreadable, StudioRefused
from ml_backend.studio import tasks as tasks_module
from ml_backend.studio.views import BY_ID, LEAST_SURE_FIRST

_numbers = itertools.count(1)


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

    def index(self, studio, project, since=None, **ids):
        """Task → stamp, of all pages."""
        found = {}
        for page in studio.changes(project.id, since, **ids):
            found |= page.moments
        return found

    def last(self, studio, project):
        """The newest stamp now."""
        return max(self.index(studio, project).values())

    def changed(self, studio, project, since):
        """Tasks that changed later, whole."""
        return list(studio.read_tasks(project.id, self.index(studio, project, since)))

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
        assert list(self.index(studio, project)) == tasks
        assert [studio.get_task(number).data["tile"] for number in tasks] == [0, 1, 2]
        (prediction,) = studio.get_task(tasks[0]).predictions
        assert (prediction["result"], prediction["model_version"]) == ([region()], "v1")
        assert {task.id for task in studio.tasks_of_round(project.id, 4)} == set(tasks)
        assert list(studio.tasks_of_round(project.id, 5)) == []

    def test_predictions_come_when_asked_for(self, studio, project, tasks):
        """Reading without predictions brings none, with them all their fields."""
        (plain,) = studio.read_tasks(project.id, tasks[:1])
        (full,) = studio.read_tasks(project.id, tasks[:1], predictions=True)
        assert plain.predictions == ()
        (row,) = full.predictions
        assert {"id", "result", "score", "model_version", "created_at"} <= row.keys()

    def test_what_is_gone_is_left_out(self, studio, project, tasks):
        """Tasks are read by id; those that are deleted or of another project do not come."""
        other = studio.create_project(f"conformance {next(_numbers)}", LABEL_CONFIG)
        (foreign,) = studio.import_tasks(other.id, [{"data": {"image": "/none.png"}}])
        studio.delete_task(tasks[1])
        found = studio.read_tasks(project.id, [foreign, 10**8, *reversed(tasks)])
        assert [task.id for task in found] == [tasks[0], tasks[2]]
        assert list(studio.read_tasks(project.id, [])) == []

    def test_the_index_has_every_id_once(self, studio, project, tasks, index_page):
        """Over several pages, also full ones; each page says how many tasks are left."""
        index_page(2)
        more = studio.import_tasks(project.id, [{"data": {"image": "/none.png"}}] * 2)
        for every in (tasks, [*tasks, more[0]], [*tasks, *more]):
            pages = list(studio.changes(project.id, last=every[-1]))
            assert [number for page in pages for number in page.moments] == every
            left = [len(every) - 2 * number for number in range(len(pages))]
            assert [page.total for page in pages] == left
        assert list(self.index(studio, project, first=tasks[1], last=tasks[2])) == tasks[1:]
        assert self.index(studio, project, first=10**8) == {}
        assert list(self.index(studio, project, first=tasks[2])) == [tasks[2], *more]

    def test_tasks_are_counted_by_their_ids(self, studio, project, tasks):
        """Both ends of a range belong to it."""
        assert studio.count_tasks(project.id) == 3
        assert studio.count_tasks(project.id, tasks[1]) == 2
        assert studio.count_tasks(project.id, 1, tasks[1]) == 2
        assert studio.count_tasks(project.id, tasks[1], tasks[1]) == 1
        assert studio.count_tasks(project.id, tasks[2] + 1) == 0

    def test_a_task_that_changes_while_we_read_hides_no_other(
        self, studio, project, tasks, index_page
    ):
        """Nor does one that is made; the index goes on after the last id."""
        index_page(1)
        pages = studio.changes(project.id)
        read = [*next(pages).moments]
        since = self.last(studio, project)
        studio.create_annotation(tasks[0], [region()])
        studio.create_annotation(tasks[2], [region()])
        made = studio.import_tasks(project.id, [{"data": {"image": "/none.png"}}])
        read += [number for page in pages for number in page.moments]
        assert read == [*tasks, *made]
        assert list(self.index(studio, project, since)) == [tasks[0], tasks[2], *made]

    def test_the_clock_is_not_ahead(self, studio, project, tasks):
        """The clock of an answer is before every stamp of what is done after it."""
        studio.get_project(project.id)
        clock = studio.clock
        studio.create_annotation(tasks[0], [])
        stamp = datetime.fromisoformat(self.last(studio, project))
        assert clock <= stamp < clock + timedelta(seconds=60)

    def test_annotating_moves_the_clock(self, studio, project, tasks):
        """Creating, skipping, editing and deleting an annotation are changes of its task."""
        since = self.last(studio, project)
        made = studio.create_annotation(tasks[1], [region()], lead_time=2.5)
        assert [task.id for task in self.changed(studio, project, since)] == [tasks[1]]
        since = self.last(studio, project)
        studio.skip(tasks[2])
        (task,) = self.changed(studio, project, since)
        assert [row["was_cancelled"] for row in task.annotations] == [True]
        since = task.updated_at
        studio.edit_annotation(made, [region("other")])
        (task,) = self.changed(studio, project, since)
        (row,) = task.annotations
        assert (row["id"], row["result"], row["lead_time"]) == (made, [region("other")], 2.5)
        assert row["created_at"] < row["updated_at"]
        since = task.updated_at
        studio.delete_annotation(made)
        (task,) = self.changed(studio, project, since)
        assert task.annotations == ()

    def test_only_one_annotation_of_a_task_has_the_star(self, studio, project, tasks):
        """It goes out silently where another gets it: the task has changed, the loser has not."""
        first = studio.create_annotation(tasks[1], [region()], lead_time=1.0)
        second = studio.create_annotation(tasks[1], [region()], lead_time=1.0)
        studio.set_ground_truth(first)
        (before, _) = self.annotations(studio, tasks[1])
        since = self.last(studio, project)
        studio.set_ground_truth(second)
        assert list(self.index(studio, project, since)) == [tasks[1]]
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
        assert list(self.index(studio, project, since)) == [tasks[1]]
        (after,) = self.annotations(studio, tasks[1])
        assert (before["was_cancelled"], after["was_cancelled"]) == (True, False)
        assert before["updated_at"] < after["updated_at"]

    def annotations(self, studio, task_id):
        """What a task has, by id."""
        return sorted(studio.get_task(task_id).annotations, key=lambda row: row["id"])

    def test_new_data_are_a_change(self, studio, project, tasks):
        """A task whose data were changed comes with them."""
        since = self.last(studio, project)
        studio.edit_task(tasks[1], {"image": "/other.png", "tile": 9})
        (task,) = self.changed(studio, project, since)
        assert task.data == {"image": "/other.png", "tile": 9}

    def test_many_predictions_move_no_clock(self, studio, project, tasks):
        """Predictions imported in bulk are stored, but no change."""
        since = self.last(studio, project)
        rows = [
            {"task": number, "result": [region()], "score": 0.25, "model_version": "v2"}
            for number in tasks
        ]
        studio.post_predictions(project.id, rows)
        assert [p["model_version"] for p in studio.get_task(tasks[1]).predictions] == ["v2"]
        assert self.index(studio, project, since) == {}

    def test_few_predictions_move_the_clock(self, studio, project, tasks):
        """One prediction in a project of many tasks is posted singly, which is a change."""
        more = [{"data": {"image": "/none.png"}} for _ in range(60)]
        studio.import_tasks(project.id, more)
        since = self.last(studio, project)
        row = {"task": tasks[0], "result": [region()], "score": 0.5, "model_version": "v3"}
        studio.post_predictions(project.id, [row])
        assert list(self.index(studio, project, since)) == [tasks[0]]

    def test_deleted_tasks_are_simply_gone(self, studio, project, tasks):
        """No change tells of them; count and ids do."""
        since = self.last(studio, project)
        studio.delete_task(tasks[0])
        assert self.index(studio, project, since) == {}
        assert list(self.index(studio, project)) == tasks[1:]
        assert studio.get_project(project.id).task_count == studio.count_tasks(project.id) == 2

    @pytest.mark.parametrize("more", [0, 300])
    def test_predictions_tell_of_tasks_that_are_gone(self, studio, project, tasks, more):
        """The others get theirs, one by one or in bulk."""
        studio.import_tasks(project.id, [{"data": {"image": "/none.png"}} for _ in range(more)])
        studio.delete_task(tasks[1])
        rows = [
            {"task": number, "result": [region()], "score": 0.5, "model_version": "v7"}
            for number in tasks
        ]
        assert studio.post_predictions(project.id, rows) == {tasks[1]}
        for number in (tasks[0], tasks[2]):
            versions = [row["model_version"] for row in studio.get_task(number).predictions]
            assert versions.count("v7") == 1

    def test_a_tab_lists_its_tasks_by_their_scores(self, studio, project, tasks):
        """The lowest score of the version that is shown first; no others, and none that is gone.

        Beside the first tab that a project gets is one with everything.
        """
        scores = zip(tasks, (0.7, 0.2, 0.5), strict=True)
        rows = [
            {"task": number, "result": [region()], "score": score, "model_version": "v2"}
            for number, score in scores
        ]
        studio.post_predictions(project.id, [rows[2], *rows[:2]])
        studio.set_model_version(project.id, "v2")
        more = studio.import_tasks(project.id, [{"data": {"image": "/none.png"}}])
        view = studio.save_view(project.id, "Round 1", tasks, order=LEAST_SURE_FIRST)
        assert studio.listed(view) == [tasks[1], tasks[2], tasks[0]]
        everything, found = studio.views(project.id)
        assert (everything.title, everything.task_ids) == ("Default", None)
        assert studio.listed(everything.id) == [*tasks, *more]
        assert (found.id, found.title, set(found.task_ids)) == (view, "Round 1", set(tasks))
        studio.delete_task(tasks[2])
        assert studio.listed(view) == [tasks[1], tasks[0]]

    def test_a_tab_is_made_once_and_removed(self, studio, project, tasks):
        """Saved again it lists other tasks; a person's tab of the same title is left alone."""
        empty = {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": None}
        begun = {"conjunction": "and", "items": [empty]}
        half = studio.make_view(project.id, {"title": "Round 1", "filters": begun})
        assert [row.task_ids for row in studio.views(project.id)] == [None]
        studio.delete_view(half)
        theirs = studio.make_view(project.id, {"title": "Round 1", "type": "list"})
        view = studio.save_view(project.id, "Round 1", tasks[:1], order=BY_ID)
        assert studio.save_view(project.id, "Round 1", tasks[::2], order=BY_ID) == view
        assert studio.listed(view) == tasks[::2]
        assert [row.id for row in studio.views(project.id)] == [theirs, view]
        studio.delete_view(view)
        assert [row.id for row in studio.views(project.id)] == [theirs]
        assert studio.listed(theirs) == tasks
        with pytest.raises(StudioRefused):
            studio.delete_view(view)


class Tokens:
    """What a server does with tokens; a subclass gives `address` and `token`."""

    def test_a_token_that_holds(self, address, token):
        """Either kind opens a project."""
        with PersonsStudio(address, token) as studio:
            made = studio.create_project(f"tokens {next(_numbers)}", LABEL_CONFIG)
            assert studio.get_project(made.id).task_count == 0

    def test_a_token_that_does_not(self, address, token):
        """A token of the same kind that is none is refused with the way out."""
        wrong = token[:-4] + "AAAA" if token.count(".") else "f" * 40
        with (
            PersonsStudio(address, wrong) as studio,
            pytest.raises(StudioRefused, match=r"401.*Account & Settings"),
        ):
            studio.get_project(1)


class TestFake(Conformance):
    """The suite over the fake."""

    @pytest.fixture
    def studio(self):
        """Give a fake of one's own."""
        return SkippingFake()

    @pytest.fixture
    def index_page(self, studio):
        """Make the index's pages smaller."""
        return lambda size: setattr(studio, "index_page", size)


class Served(Conformance):
    """The suite over HTTP."""

    @pytest.fixture
    def index_page(self, monkeypatch):
        """Make the index's pages smaller."""
        return lambda size: monkeypatch.setattr(tasks_module, "_INDEX_PAGE", size)


class TestServed(Served, Tokens):
    """The suite over the fake behind HTTP."""

    @pytest.fixture
    def server(self):
        """Give a server of one's own."""
        with StudioServer() as server:
            yield server

    @pytest.fixture
    def address(self, server):
        """Where it is."""
        return server.url

    @pytest.fixture(params=["personal", "legacy"])
    def token(self, request, server):
        """Either kind."""
        return server.personal_token if request.param == "personal" else LEGACY

    @pytest.fixture
    def studio(self, server):
        """Give a client."""
        with PersonsStudio(server.url, server.personal_token) as client:
            yield client


@pytest.mark.studio
class TestReal(Served, Tokens):
    """The suite over a real Label Studio."""

    @pytest.fixture
    def address(self, label_studio: LabelStudio):
        """Where it is."""
        return label_studio.url

    @pytest.fixture(params=["personal", "legacy"])
    def token(self, request, label_studio: LabelStudio):
        """Either kind."""
        personal = request.param == "personal"
        return label_studio.personal_token if personal else label_studio.token

    @pytest.fixture
    def studio(self, label_studio: LabelStudio):
        """Give a client of the real one."""
        with PersonsStudio(label_studio.url, label_studio.personal_token) as client:
            yield client
