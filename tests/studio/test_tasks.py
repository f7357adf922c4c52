"""Projects, tasks, annotations and predictions in the real Label Studio."""

from typing import Any

import pytest
from support.label_studio import LabelStudio
from support.tasks import LABEL_CONFIG, region

from ml_backend.errors import StudioRefused
from ml_backend.studio import tasks as tasks_module
from ml_backend.studio.client import Studio
from ml_backend.studio.models import ProjectInfo

pytestmark = pytest.mark.studio


def add_tasks(studio: Studio, project: ProjectInfo, count: int) -> list[int]:
    """Bare tasks with a number in their data."""
    new = [{"data": {"image": "/none.png", "tile": number}} for number in range(count)]
    return studio.import_tasks(project.id, new)


def ids_of(studio: Studio, project: ProjectInfo, since: str | None = None) -> list[int]:
    """The ids of the index."""
    return [number for page in studio.changes(project.id, since) for number in page.moments]


def newest(studio: Studio, project: ProjectInfo) -> str:
    """The latest stamp."""
    return max(stamp for page in studio.changes(project.id) for stamp in page.moments.values())


def test_both_kinds_of_token_are_the_same_user(label_studio: LabelStudio) -> None:
    """A personal token works like a legacy one, and the client knows which it has."""
    personal = Studio(label_studio.url, label_studio.personal_token)
    legacy = Studio(f"{label_studio.url}/", f" {label_studio.token}\n")
    assert (personal.token_kind, legacy.token_kind) == ("personal", "legacy")
    assert personal.whoami() == legacy.whoami()
    assert personal.whoami().email == label_studio.email
    assert personal.version().startswith("1.")


@pytest.mark.parametrize("key", ["0" * 40, "eyJ.eyJ.sig"])
def test_a_wrong_token_is_refused_with_the_way_out(label_studio: LabelStudio, key: str) -> None:
    """Both kinds of wrong token say where to get a right one."""
    with pytest.raises(StudioRefused, match="Account & Settings") as caught:
        Studio(label_studio.url, key).whoami()
    assert key not in str(caught.value)


def test_a_path_that_is_not_there(label_studio: LabelStudio) -> None:
    """An address with a wrong path is refused, not read as JSON."""
    with pytest.raises(StudioRefused, match="404"):
        Studio(f"{label_studio.url}/wrong", label_studio.token).whoami()


def test_a_project_is_found_by_its_exact_title(studio: Studio, project: ProjectInfo) -> None:
    """Projects whose titles merely contain the words are not it; of twins it is the oldest."""
    studio.create_project(f"{project.title} more", LABEL_CONFIG)
    studio.create_project(project.title, LABEL_CONFIG)
    found = studio.find_project(project.title)
    assert found is not None
    assert found.id == project.id
    assert found.label_config == LABEL_CONFIG
    assert studio.find_project("no such title") is None


def test_a_refused_project_says_why(studio: Studio) -> None:
    """Validation messages of Label Studio reach the user."""
    with pytest.raises(StudioRefused, match="title: Ensure this field has at least 3"):
        studio.create_project("x", LABEL_CONFIG)
    with pytest.raises(StudioRefused, match="404"):
        studio.get_project(10**8)


def test_tasks_keep_order_data_and_predictions(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids come in the order of the tasks, over several batches, with all that was sent."""
    monkeypatch.setattr(tasks_module, "_BATCH_TASKS", 2)
    new = [
        {
            "data": {"image": "/none.png", "tile": number},
            "meta": {"from": "pool"},
            "predictions": [{"result": [region()], "score": 0.25, "model_version": "v1"}],
        }
        for number in range(5)
    ]
    ids = studio.import_tasks(project.id, new)
    assert ids_of(studio, project) == ids
    for number, task_id in enumerate(ids):
        task = studio.get_task(task_id)
        assert task.data == {"image": "/none.png", "tile": number}
        assert task.meta == {"from": "pool"}
        assert [p["result"] for p in task.predictions] == [[region()]]
        assert (task.predictions[0]["score"], task.predictions[0]["model_version"]) == (0.25, "v1")
    assert studio.get_project(project.id).task_count == 5


def test_a_task_without_the_image_is_refused(studio: Studio, project: ProjectInfo) -> None:
    """Label Studio checks the data against the labeling config, and nothing is stored."""
    with pytest.raises(StudioRefused, match="image"):
        studio.import_tasks(project.id, [{"data": {"other": 1}}])
    assert ids_of(studio, project) == []


def test_tasks_of_a_round(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds are told apart as whole numbers, over several pages."""
    monkeypatch.setattr(tasks_module, "_ROUND_PAGE", 2)
    rounds = [1, 11, 2, 1, 1, 10, None]
    new = [
        {"data": {"image": "/none.png"} | ({"round": number} if number else {})}
        for number in rounds
    ]
    ids = studio.import_tasks(project.id, new)
    for wanted in (1, 2, 11, 3):
        found = [task.id for task in studio.tasks_of_round(project.id, wanted)]
        assert found == [
            task_id for task_id, number in zip(ids, rounds, strict=True) if number == wanted
        ]


def test_tasks_are_read_with_whole_annotations(studio: Studio, project: ProjectInfo) -> None:
    """Result, parent, time and author come with an annotation; predictions when asked for."""
    ids = add_tasks(studio, project, 3)
    studio.post_predictions(
        project.id, [{"task": ids[0], "result": [region()], "score": 0.5, "model_version": "v1"}]
    )
    parent = studio.get_task(ids[0]).predictions[0]["id"]
    since = newest(studio, project)
    made = studio.create_annotation(
        ids[0], [region("other")], parent_prediction=parent, lead_time=3.5
    )
    assert ids_of(studio, project, since) == [ids[0]]
    (task,) = studio.read_tasks(project.id, ids[:1])
    (annotation,) = task.annotations
    assert annotation["id"] == made
    assert annotation["result"] == [region("other")]
    assert annotation["parent_prediction"] == parent
    assert annotation["lead_time"] == 3.5
    assert annotation["was_cancelled"] is False
    assert annotation["ground_truth"] is False
    assert annotation["completed_by"] == studio.whoami().id
    assert since < annotation["created_at"] <= annotation["updated_at"] <= task.updated_at
    assert task.predictions == ()
    (full,) = studio.read_tasks(project.id, ids[:1], predictions=True)
    (prediction,) = full.predictions
    assert (prediction["id"], prediction["model_version"]) == (parent, "v1")
    assert (prediction["result"], prediction["score"]) == ([region()], 0.5)
    assert ids_of(studio, project, task.updated_at) == []


def test_reading_keeps_to_its_size(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests grow while answers are small, and shrink to one task where they are large."""
    ids = add_tasks(studio, project, 60)
    asked: list[int] = []
    page = tasks_module._page

    def counted(*args: Any, **options: Any) -> Any:
        asked.append(options["size"])
        return page(*args, **options)

    monkeypatch.setattr(tasks_module, "_page", counted)
    assert [task.id for task in studio.read_tasks(project.id, ids)] == ids
    assert asked == [10, 40, 10]
    asked.clear()
    monkeypatch.setattr(tasks_module, "_READ_BYTES", 1)
    assert [task.id for task in studio.read_tasks(project.id, ids[:13])] == ids[:13]
    assert asked == [10, 1, 1, 1]
    asked.clear()
    monkeypatch.setattr(tasks_module, "_READ_BYTES", 2**20)
    monkeypatch.setattr(tasks_module, "_READ_MOST", 25)
    assert [task.id for task in studio.read_tasks(project.id, ids)] == ids
    assert asked == [10, 25, 25]


def test_the_watermark_is_exact(studio: Studio, project: ProjectInfo) -> None:
    """From any stamp on exactly the later ones come."""
    add_tasks(studio, project, 4)
    stamps = {k: v for page in studio.changes(project.id) for k, v in page.moments.items()}
    for since in stamps.values():
        later = [number for number, stamp in stamps.items() if stamp > since]
        assert ids_of(studio, project, since) == later


def test_a_skipped_task_is_a_change(studio: Studio, project: ProjectInfo) -> None:
    """Cancelled annotations come too, marked as such."""
    ids = add_tasks(studio, project, 1)
    since = newest(studio, project)
    studio._http.json(
        "POST", f"/api/tasks/{ids[0]}/annotations/", body={"result": [], "was_cancelled": True}
    )
    (task,) = studio.read_tasks(project.id, ids_of(studio, project, since))
    assert [annotation["was_cancelled"] for annotation in task.annotations] == [True]


def test_a_broken_watermark_is_refused(studio: Studio, project: ProjectInfo) -> None:
    """Label Studio answers 500 to other spellings of time; ours are understood or refused."""
    ids = add_tasks(studio, project, 1)
    assert ids_of(studio, project, "2020-01-01") == ids
    assert ids_of(studio, project, "2020-01-01T00:00:00+02:00") == ids
    with pytest.raises(StudioRefused, match="yesterday"):
        ids_of(studio, project, "yesterday")


@pytest.mark.parametrize("way", ["single", "bulk"])
def test_predictions_are_added(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Both ways store the same; only single posts count as changes of the tasks."""
    monkeypatch.setattr(tasks_module, "_BREAK_EVEN", 1 if way == "single" else 0)
    ids = add_tasks(studio, project, 3)
    since = newest(studio, project)
    new = [
        {"task": task_id, "result": [region()], "score": 0.125, "model_version": "v2"}
        for task_id in ids
    ]
    studio.post_predictions(project.id, new)
    studio.post_predictions(project.id, [])
    for task_id in ids:
        (stored,) = studio.get_task(task_id).predictions
        assert stored["result"] == [region()]
        assert (stored["score"], stored["model_version"]) == (0.125, "v2")
    assert ids_of(studio, project, since) == (ids if way == "single" else [])


@pytest.mark.parametrize("break_even", [0, 10])
@pytest.mark.parametrize("batch", [250, 2])
def test_predictions_for_tasks_that_are_gone_are_told(
    studio: Studio,
    project: ProjectInfo,
    monkeypatch: pytest.MonkeyPatch,
    break_even: int,
    batch: int,
) -> None:
    """The others get theirs, once, by either way and in batches of any size."""
    monkeypatch.setattr(tasks_module, "_BREAK_EVEN", break_even)
    monkeypatch.setattr(tasks_module, "_BATCH_TASKS", batch)
    ids = add_tasks(studio, project, 5)
    studio._http.json("DELETE", f"/api/tasks/{ids[1]}")
    rows = [
        {"task": number, "result": [region()], "score": 0.5, "model_version": "v1"}
        for number in (*ids[:3], 10**8, *ids[3:])
    ]
    assert studio.post_predictions(project.id, rows) == {ids[1], 10**8}
    for number in (ids[0], *ids[2:]):
        assert len(studio.get_task(number).predictions) == 1
    assert studio.post_predictions(project.id, rows[1:2]) == {ids[1]}


def test_predictions_that_are_refused_for_another_reason_are_refused(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only tasks that are gone are passed over."""
    monkeypatch.setattr(tasks_module, "_BREAK_EVEN", 10)
    (number,) = add_tasks(studio, project, 1)
    wrong = {"task": number, "result": [region()], "score": "much", "model_version": "v1"}
    with pytest.raises(StudioRefused, match="score"):
        studio.post_predictions(project.id, [wrong])


def test_the_shown_version_is_set(studio: Studio, project: ProjectInfo) -> None:
    """The version is what the project shows; uncertainty sampling is set when asked for."""
    (task_id,) = add_tasks(studio, project, 1)
    with pytest.raises(StudioRefused, match="Model version doesn't exist"):
        studio.set_model_version(project.id, "v7")
    for version in ("v7", "v8"):
        new = {"task": task_id, "result": [region()], "score": 0.5, "model_version": version}
        studio.post_predictions(project.id, [new])
    studio.set_model_version(project.id, "v7")
    assert studio.get_project(project.id).model_version == "v7"
    studio.set_model_version(project.id, "v8", sampling="Uncertainty sampling")
    assert studio.get_project(project.id).model_version == "v8"
    raw = studio._http.json("GET", f"/api/projects/{project.id}")
    assert raw["sampling"] == "Uncertainty sampling"
