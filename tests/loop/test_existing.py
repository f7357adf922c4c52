"""Projects whose tasks were in Label Studio before: chosen from, listed in a tab, never pushed."""

import pytest
from support.house import picture, save_picture

from ml_backend.errors import StudioRefused, StudioUnreachable
from ml_backend.loop import existing
from ml_backend.loop.context import silent
from ml_backend.loop.due import outlook
from ml_backend.loop.effort import efforts
from ml_backend.loop.existing import way_of
from ml_backend.loop.export import export
from ml_backend.loop.preview import preview
from ml_backend.loop.round import run_round


class Owner:
    """Somebody whose project had its tasks before; `numbers` are their pictures."""

    def __init__(self, house):
        self.house, self.numbers = house, {}

    @property
    def studio(self):
        """The fake."""
        return self.house.studio

    def bring(self, *numbers):
        """Make a task for each picture; their ids."""
        files = []
        for number in numbers:
            path = self.house.folder / "own" / f"{number}.png"
            save_picture(path, number)
            files.append((path.name, path.read_bytes()))
        urls = self.studio.upload_images(self.house.project_id, files)
        bodies = [{"data": {"image": url, "patient": "p"}} for url in urls]
        ids = self.studio.import_tasks(self.house.project_id, bodies)
        self.numbers |= dict(zip(ids, numbers, strict=True))
        return ids

    def answer(self, *tasks):
        """Submit the truth."""
        for task in tasks:
            mask = picture(self.numbers[task])[1]
            self.studio.create_annotation(task, self.house.regions(mask))

    def tabs(self):
        """Title → the tasks of a tab, from top to bottom."""
        rows = self.studio.views(self.house.project_id)
        return {view.title: self.studio.listed(view.id) for view in rows}

    def round(self, number):
        """Tasks of a round as the catalog has them."""
        rounds = {row.id: row.number for row in self.house.catalog.rounds.all(1)}
        tasks = self.house.catalog.work.tasks(1)
        return {task.id for task in tasks if rounds.get(task.round_id) == number}


@pytest.fixture
def owner(house):
    """Give the owner of an empty project."""
    return Owner(house)


@pytest.fixture
def trained(owner):
    """Give the owner of sixteen tasks, six of them annotated, and of a model that learned them."""
    tasks = owner.bring(*range(16))
    owner.answer(*tasks[:6])
    owner.house.step("sync")
    owner.house.step("train")
    assert owner.house.catalog.models.current(1) is not None
    return owner


def test_a_batch_is_a_tab_of_tasks_that_are_there(owner):
    """Nothing is pushed and no data change; the round is recorded, and moves on when it is done."""
    tasks = owner.bring(*range(12))
    before = {task: dict(owner.studio.tasks[task]["data"]) for task in tasks}
    report = owner.house.step("select")
    assert report.numbers["existing"] == 4
    assert report.numbers["pushed"] == 0
    assert "4 tasks that were there before, tab 'Round 1': " in report.summary
    assert "tasks pushed" not in report.summary
    assert {task: owner.studio.tasks[task]["data"] for task in owner.studio.tasks} == before
    (record,) = owner.house.catalog.rounds.all(1)
    tiles = {owner.house.catalog.work.task(task).tile_id for task in owner.round(1)}
    assert (record.state, {item.tile_id for item in record.chosen}) == ("pushed", tiles)
    tabs = owner.tabs()
    assert list(tabs) == ["Default", "Round 1"]
    assert (set(tabs["Default"]), set(tabs["Round 1"])) == (set(tasks), owner.round(1))
    assert report.numbers["tab"].endswith(f"?tab={owner.studio.views(1)[1].id}")
    assert "enough tasks are open" in owner.house.step("select").summary
    owner.answer(*owner.round(1))
    owner.house.step("sync")
    assert owner.house.step("select").numbers["round"] == 2
    assert not owner.round(1) & owner.round(2)
    assert efforts(owner.house.context, 1)[0].work.submitted == 4


def test_the_least_sure_is_first(trained):
    """The chosen tasks have predictions of the version that is shown, and no others do."""
    report = trained.house.step("select")
    assert report.numbers["strategy"] == "power"
    scores = {}
    for task, row in trained.studio.tasks.items():
        for prediction in row["predictions"]:
            scores[task] = prediction["score"]
    assert set(scores) == trained.round(1)
    assert trained.tabs()["Round 1"] == sorted(scores, key=scores.get)
    version = trained.house.catalog.models.current(1).version
    assert trained.studio.get_project(1).model_version == version
    assert trained.studio.samplings == {1: "Uncertainty sampling"}
    second = trained.house.promote_copy()
    assert trained.house.step("predict").numbers["shown"] == 4
    with_second = {
        task
        for task, row in trained.studio.tasks.items()
        if second in {prediction["model_version"] for prediction in row["predictions"]}
    }
    assert with_second == trained.round(1)


def test_the_loop_goes_on_by_itself(trained):
    """Done, a batch leads to a training and to the next tab; that of the done one goes."""
    trained.house.step("select")
    theirs = trained.studio.make_view(1, {"title": "Round 1"})
    mine = {"filter": "filter:tasks:id", "operator": "equal", "value": max(trained.numbers)}
    trained.studio.make_view(1, {"title": "Round 1", "filters": {"items": [mine]}})
    first = trained.round(1)
    trained.answer(*sorted(first))
    reports = run_round(trained.house.context, 1, silent)
    assert len(trained.house.catalog.models.all(1)) == 2
    assert reports[-1].numbers["round"] == 2
    titles = [view.title for view in trained.studio.views(1)]
    assert titles == ["Default", "Round 1", "Round 1", "Round 2"]
    assert trained.studio.views(1)[1].id == theirs
    assert set(trained.tabs()["Round 2"]) == trained.round(2)
    assert not first & trained.round(2)


def test_a_round_that_is_not_done_keeps_its_tab(owner):
    """The next batch comes before the last task is answered; both are listed."""
    owner.bring(*range(12))
    owner.house.step("select")
    first = sorted(owner.round(1))
    owner.answer(*first[:2])
    owner.house.step("select")
    assert list(owner.tabs()) == ["Default", "Round 1", "Round 2"]
    owner.answer(*first[2:], *owner.round(2))
    owner.house.step("select")
    assert list(owner.tabs()) == ["Default", "Round 3"]


def test_pool_and_tasks_are_chosen_from_together(owner):
    """Tiles are pushed, tasks are not, a picture that is both is not; the tab lists all of them."""
    owner.house.recipe({"selection.batch": 14})
    owner.bring(*range(90, 98), 0)
    owner.house.fill(6)
    report = owner.house.step("select")
    assert (report.numbers["pushed"], report.numbers["existing"]) == (5, 9)
    assert set(owner.tabs()["Round 1"]) == owner.round(1) == set(owner.studio.tasks)
    assert len(owner.round(1)) == 14
    assert "5 tasks pushed, 9 tasks that were there before" in report.summary


def test_a_pool_of_its_own_has_no_tab(owner):
    """What was pushed is what there is: nothing changes there."""
    owner.house.fill(8)
    assert owner.house.step("select").numbers == {"round": 1, "pushed": 4, "strategy": "clusters"}
    assert owner.tabs() == {}


def test_images_are_fetched_so_many_for_each_round(owner, monkeypatch):
    """Not all for the first batch; what is there is not fetched again, here or in a dry run."""
    monkeypatch.setattr(existing, "LOOK", 6)
    owner.bring(*range(20))
    owner.house.step("sync")
    assert owner.studio.calls.count("download") == 0
    shown = preview(owner.house.context, 1, silent)
    assert owner.studio.calls.count("download") == 6
    report = owner.house.step("select")
    assert report.numbers["later"] == 14
    assert "14 tasks are looked at in later rounds" in report.summary
    assert owner.studio.calls.count("download") == 6
    assert owner.house.catalog.rounds.all(1)[0].chosen == shown.record.chosen
    owner.answer(*owner.round(1))
    owner.house.step("select")
    assert owner.studio.calls.count("download") == 6 + 10
    assert outlook(owner.house.context, owner.house.project).pool


def test_a_random_first_batch_fetches_few(owner):
    """No more than the batch and its audits need."""
    owner.house.recipe({"selection.first": "random", "selection.batch": 2})
    owner.bring(*range(20))
    owner.house.step("select")
    assert owner.studio.calls.count("download") == 8
    assert len(owner.round(1)) == 2


@pytest.mark.parametrize("call", [1, 3, 18])
def test_fetching_carries_on_where_it_stopped(owner, call, monkeypatch):
    """What came before Label Studio went away is kept, as far as the catalog was looked at."""
    monkeypatch.setattr(existing, "CHUNK", 2)
    owner.bring(*range(20))

    def cut(count):
        if count == call:
            raise StudioUnreachable("gone")

    owner.studio.fail["download"] = cut
    with pytest.raises(StudioUnreachable):
        owner.house.step("select")
    owner.house.step("select")
    assert owner.studio.calls.count("download") == 20 + (call - 1) % 2 + 1
    assert len(owner.round(1)) == 4


def test_a_broken_image_costs_itself(owner):
    """It is set aside with its reason; the rest of the batch is chosen, and it may heal."""
    tasks = owner.bring(*range(6))
    url = owner.studio.tasks[tasks[2]]["data"]["image"]
    whole = owner.studio.files.pop(url)
    owner.house.recipe({"selection.batch": 6})
    assert owner.house.step("select").numbers["existing"] == 5
    assert owner.round(1) == {*tasks} - {tasks[2]}
    assert "not there" in owner.house.catalog.work.task(tasks[2]).reason
    assert "pool is empty" not in owner.house.step("select").summary
    owner.studio.files[url] = whole
    owner.answer(*owner.round(1))
    owner.house.step("sync")
    assert owner.house.step("select").numbers["existing"] == 1


def test_what_people_did_meanwhile_counts(owner):
    """Annotated, skipped and deleted tasks are no candidates any more; drafts and locks are."""
    tasks = owner.bring(*range(7))
    owner.house.step("sync")
    owner.house.recipe({"selection.batch": 7})
    existing.fetch_images(owner.house.context, owner.house.project, silent)
    owner.answer(tasks[0])
    owner.studio.create_annotation(tasks[1], [], was_cancelled=True)
    owner.studio.delete_task(tasks[2])
    owner.house.step("select")
    assert owner.round(1) == set(tasks[3:])
    assert {*owner.studio.tasks} == {*tasks} - {tasks[2]}


def test_one_of_several_tasks_of_a_picture_is_chosen(owner):
    """The first that is open; the other one is left alone."""
    tasks = owner.bring(1, 1, 2)
    owner.house.recipe({"selection.batch": 3})
    owner.house.step("select")
    assert owner.round(1) == {tasks[0], tasks[2]}
    owner.answer(tasks[0], tasks[2])
    assert "pool is empty" in owner.house.step("select").summary


@pytest.mark.parametrize("method", ["save_view", "post_predictions", "import_tasks"])
@pytest.mark.parametrize("when", ["fail", "fail_after"])
def test_a_selection_that_was_cut_off_is_finished(trained, method, when):
    """The same round, each task once, one tab; what was deleted meanwhile is not made again."""
    trained.house.fill(24)
    trained.house.recipe({"selection.batch": 14})

    def cut(_count):
        getattr(trained.studio, when).clear()
        raise StudioUnreachable("gone")

    getattr(trained.studio, when)[method] = cut
    with pytest.raises(StudioUnreachable):
        trained.house.step("select")
    (record,) = trained.house.catalog.rounds.all(1)
    assert record.state == "chosen"
    tiles = {item.tile_id for item in record.chosen}
    rows = trained.house.catalog.work.tasks(1, open_only=True)
    mine = [task.id for task in rows if task.tile_id in tiles and task.id in trained.numbers]
    trained.studio.delete_task(mine[0])
    report = trained.house.step("select")
    assert report.numbers["round"] == 1
    assert report.numbers["existing"] == len(mine) - 1
    assert len(trained.round(1)) == len(record.chosen) - 1
    assert list(trained.tabs()) == ["Default", "Round 1"]
    assert set(trained.tabs()["Round 1"]) == trained.round(1)


def test_without_its_tab_a_round_goes_on(owner):
    """A token that may not make tabs does not end the loop; the summary says so."""
    owner.bring(*range(8))

    def refuse(_count):
        raise StudioRefused("POST /api/dm/views/: 403")

    owner.studio.fail["save_view"] = refuse
    report = owner.house.step("select")
    assert "the tab 'Round 1' could not be made: POST /api/dm/views/: 403" in report.summary
    assert report.numbers["tab"] is None
    assert len(owner.round(1)) == 4


def test_a_refused_push_leaves_the_tasks_that_were_there(owner):
    """What could not be pushed is not in the round; the tab lists the rest."""
    owner.house.recipe({"selection.batch": 14})
    owner.bring(*range(90, 98))
    owner.house.fill(6)

    def refuse(_count):
        raise StudioRefused("POST import: 400")

    owner.studio.fail["import_tasks"] = refuse
    with pytest.raises(StudioRefused):
        owner.house.step("select")
    (record,) = owner.house.catalog.rounds.all(1)
    assert (record.state, len(record.chosen)) == ("pushed", 8)
    assert set(owner.tabs()["Round 1"]) == owner.round(1) == set(owner.studio.tasks)


def test_connect_can_say_which_way_a_project_goes(owner):
    """Before the first pull and after it: by tasks, by the pool, by both, or not at all."""
    context, project = owner.house.context, owner.house.project
    assert "nothing to choose from" in way_of(context, project).summary
    owner.house.fill(3)
    assert "pushed as new tasks, of 3 tiles" in way_of(context, project).summary
    owner.bring(*range(90, 96))
    summary = way_of(context, project).summary
    assert "6 tasks are in Label Studio already" in summary
    assert "together with what it pushes of 3 tiles" in summary
    owner.house.step("select")
    assert way_of(context, project).existing == 6 - len(owner.round(1) & set(owner.numbers))


def test_where_nothing_is_selected_every_task_is_predicted(trained):
    """A project that only asks for predictions gets them on all open tasks."""
    trained.house.recipe({"loop.auto_select": False})
    assert trained.house.step("predict").numbers["shown"] == 10
    assert all(row["predictions"] for row in list(trained.studio.tasks.values())[6:])


def test_the_model_exports_open_tasks_too(trained, tmp_path):
    """Their images are fetched for it."""
    done = export(trained.house.context, 1, tmp_path / "masks", progress=silent)
    assert done.images == 16
