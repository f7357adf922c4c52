"""The trial of the write path: what is wrong is said before anything is pushed, nothing stays."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import SecretStr
from support.house import open_house, picture, save_picture

from ml_backend.errors import (
    ImageUnreadable,
    LabelConfigError,
    StudioError,
    StudioRefused,
    StudioUnreachable,
)
from ml_backend.loop.connect import connect
from ml_backend.loop.trial import MARK, try_write_path
from ml_backend.masks.labels import make_label_config
from ml_backend.store.rows import Task

CONFIG = """<View><Image name="i" {}/>
  <BrushLabels name="b" toName="i"><Label value="c"/></BrushLabels></View>"""


def connectable(house):
    """The house's context with the secrets that connecting needs."""
    secrets = {"password": SecretStr("p" * 12), "webhook_secret": SecretStr("s" * 12)}
    settings = house.context.settings.model_copy(update=secrets)
    context = replace(house.context, settings=settings)
    context.__dict__["studio"] = house.studio
    return context


def with_config(house, config):
    """Give the project another labeling config; the project with it."""
    house.studio.projects[house.project_id]["label_config"] = config
    return replace(house.project, label_config=config)


def left(house):
    """What a trial left in Label Studio."""
    return [*house.studio.tasks, *house.studio.files]


@pytest.mark.parametrize(
    ("labels", "multiple"),
    [(["cell"], False), (["cell", "nucleus"], True), ([f"l{n}" for n in range(60)], False)],
)
def test_a_trial_that_goes_well_leaves_nothing(tmp_path, labels, multiple):
    """Task and file came and went, the catalog knows nothing of them, and a line says so."""
    house = open_house(tmp_path, labels, multiple=multiple)
    said = try_write_path(house.context, house.project)
    assert said.endswith(f"images load at {house.studio.url}")
    assert left(house) == []
    assert house.catalog.work.tasks(house.project_id) == []
    assert house.catalog.pool.images(house.project_id) == []
    house.catalog.close()


@pytest.mark.parametrize(
    ("when", "method"),
    [
        *(("fail_after", method) for method in ("upload_images", "import_tasks")),
        *(("fail", method) for method in ("upload_images", "import_tasks", "read_tasks")),
        *(("fail", method) for method in ("download", "view", "tasks_where")),
    ],
)
@pytest.mark.parametrize("error", [StudioRefused, StudioUnreachable, KeyboardInterrupt])
def test_a_trial_that_fails_half_way_leaves_nothing(house, when, method, error):
    """At once, or after the next trial where Label Studio did not answer while it cleaned up."""

    def fail(count):
        if count == 1:
            raise error("broken")

    getattr(house.studio, when)[method] = fail
    try:
        try_write_path(house.context, house.project)
    except (StudioError, KeyboardInterrupt):
        house.studio.fail.clear()
    if method != "tasks_where":
        assert left(house) == []
    try_write_path(house.context, house.project)
    assert left(house) == []


def test_the_next_trial_removes_what_a_killed_one_left(house):
    """Tasks by their mark and files by their name; nobody else's."""
    (kept,) = house.studio.upload_images(house.project_id, [("mine.png", b"1")])
    house.studio.upload_images(house.project_id, [("brushloop-trial.png", b"2")])
    house.studio.import_tasks(
        house.project_id, [{"data": {"image": kept, MARK: 1}}, {"data": {"image": kept}}]
    )
    try_write_path(house.context, house.project)
    assert list(house.studio.files) == [kept]
    assert [MARK in row["data"] for row in house.studio.tasks.values()] == [False]


def test_pulls_and_predictions_pass_a_trial_by(house):
    """A marked task that is there for a moment, or was left, is no task of the project."""
    house.fill(2)
    save_picture(house.folder / "t.png", 9)
    (url,) = house.studio.upload_images(
        house.project_id, [("t.png", (house.folder / "t.png").read_bytes())]
    )
    (number,) = house.studio.import_tasks(house.project_id, [{"data": {"image": url, MARK: 1}}])
    for _ in range(3):
        report = house.step("sync")
        assert report.numbers["tasks"] == 0
        assert report.follow == ()
    assert house.catalog.work.task(number) is None
    assert len(house.catalog.pool.images(house.project_id)) == 2
    house.studio.delete_task(number)
    assert house.step("sync").numbers["gone"] == 0
    house.catalog.work.save_tasks(house.project_id, [Task(number, None, url)])  # by hand


@pytest.mark.parametrize("before", ["/data/local-files/?d=", "https://images.test/"])
def test_a_config_that_cannot_show_uploads_is_refused_before_any(house, before):
    """The tag, what is wrong, and what to write; nothing was sent."""
    project = with_config(house, CONFIG.format(f'value="{before}$image"'))
    with pytest.raises(LabelConfigError, match="would not show the address") as caught:
        try_write_path(house.context, project)
    assert 'value="$image"' in str(caught.value)
    assert "upload_images" not in house.studio.calls


def test_such_a_config_with_tasks_of_its_own_is_tried_with_one_of_them(house):
    """Tasks that are there can be ranked; only a pool, which must be uploaded, cannot be pushed."""
    config = CONFIG.format('value="/data/upload/9/$file"')
    project = with_config(house, config)
    house.catalog.projects.save(house.project_id, label_config=config)
    house.studio.files["/data/upload/9/a.png"] = png_of(house)
    broken, kept = house.studio.import_tasks(
        house.project_id, [{"data": {"file": "gone.png"}}, {"data": {"file": "a.png"}}]
    )
    for _ in range(2):
        said = try_write_path(house.context, project)
        assert "a copy of one that is there" in said
        assert "images load at" in said
        assert sorted(house.studio.tasks) == [broken, kept]
        house.studio.create_annotation(kept, house.regions(picture(5)[1]))
        house.step("sync")  # which fetches the image, and brings it into the catalog
    house.fill(2)
    with pytest.raises(LabelConfigError, match="would not show the address"):
        try_write_path(house.context, project)


def png_of(house):
    """A picture's file."""
    save_picture(house.folder / "a.png", 5)
    return (house.folder / "a.png").read_bytes()


def test_a_refused_push_of_such_a_config_leaves_no_round(house):
    """What the trial would have said is said by a push as well, and nothing is recorded."""
    house.fill(4)
    project = with_config(house, CONFIG.format('value="/data/local-files/?d=$image"'))
    house.catalog.projects.save(house.project_id, label_config=project.label_config)
    with pytest.raises(LabelConfigError, match="would not show the address"):
        house.step("select")
    assert house.catalog.rounds.all(house.project_id) == []
    assert left(house) == []


def test_a_refusal_is_said_with_what_to_correct(house):
    """Label Studio's own words, and where to mend it."""

    def refuse(_count):
        raise StudioRefused('validation: "caption" key is expected in task data')

    house.studio.fail["import_tasks"] = refuse
    with pytest.raises(StudioRefused, match="does not take a task as a round would") as caught:
        try_write_path(house.context, house.project)
    assert "Labeling Interface" in str(caught.value)
    assert "pool.data" in str(caught.value)


def test_a_prediction_that_does_not_come_back_is_said(house):
    """Whether it is dropped or changed."""
    import_tasks = house.studio.import_tasks
    house.studio.import_tasks = lambda number, new: import_tasks(
        number, [{"data": body["data"]} for body in new]
    )
    with pytest.raises(StudioRefused, match="does not give a prediction back"):
        try_write_path(house.context, house.project)
    assert left(house) == []


def test_images_that_do_not_load_in_browsers_are_said(house):
    """Below a sub-path without its address, and where the address leads to something else."""
    house.studio.view = missing
    with pytest.raises(ImageUnreadable, match="would not see images") as caught:
        try_write_path(house.context, house.project)
    assert "BRUSHLOOP_LABEL_STUDIO_BROWSER_URL" in str(caught.value)
    house.studio.view = lambda _: b"<html>another page</html>"
    with pytest.raises(ImageUnreadable, match="something else"):
        try_write_path(house.context, house.project)
    assert left(house) == []


def missing(address):
    """A browser's 404."""
    raise ImageUnreadable(f"{address} answers 404")


def test_what_could_not_be_tried_is_said(house):
    """A browser's address that this process cannot reach is no fault, and not silent."""

    def away(_count):
        raise StudioUnreachable("https://people.test: name or service not known")

    house.studio.fail["view"] = away
    assert "was not tried: https://people.test" in try_write_path(house.context, house.project)
    house.studio.fail.clear()
    house.studio.view = lambda _: None
    assert "for people who are logged in" in try_write_path(house.context, house.project)


def test_the_sub_path_stands_before_images_in_tasks(house):
    """Uploads get it, and so do files that Label Studio serves from the pool."""
    house.studio.browser_url = "https://host.test/ls"
    house.studio.page_path = "/ls"
    house.fill(4)
    shown = []
    house.studio.download = lambda url, **_: house.studio.files[url.removeprefix("/ls")]
    view = house.studio.view
    house.studio.view = lambda address: shown.append(address) or view(address)
    assert "images load at https://host.test/ls" in try_write_path(house.context, house.project)
    assert shown[0].startswith("/ls/data/upload/")
    house.step("select")
    for row in house.studio.tasks.values():
        assert row["data"]["image"].startswith("/ls/data/upload/")
    assert house.catalog.sites.get(house.project_id).browser_url == "https://host.test/ls"


def test_a_pool_that_is_referred_to_is_tried_with_its_own_image(house):
    """The first image of the pool stands for the rest; one that is not there is said."""
    base = "/data/local-files/?d=scans"
    house.recipe({"pool.reference": base})
    said = try_write_path(house.context, house.project)
    assert "wait for those of the pool" in said
    house.fill(2)
    with pytest.raises(ImageUnreadable, match=r"pool\.reference"):
        try_write_path(house.context, house.project)
    name = house.catalog.pool.images(house.project_id)[0].name
    house.studio.files[f"{base}/{name}"] = b"an image"
    assert "images load at" in try_write_path(house.context, house.project)
    assert "upload_images" not in house.studio.calls
    assert list(house.studio.files) == [f"{base}/{name}"]


def test_connecting_registers_nothing_after_a_trial_that_failed(house):
    """Neither backend nor webhook, nor a row in the catalog of what was not known before."""
    other = house.studio.create_project("Other", make_label_config(["cell"]))
    house.studio.view = missing
    context = connectable(house)
    with pytest.raises(ImageUnreadable):
        connect(context, other.id, trial=True)
    assert house.studio.backend_rows == house.studio.webhook_rows == []
    assert house.catalog.projects.find(other.id) is None
    assert left(house) == []
    house.studio.view = type(house.studio).view.__get__(house.studio)
    done = connect(context, other.id, trial=True)
    assert done.trial is not None
    assert done.page == f"{house.studio.url}/projects/{other.id}/data"
    assert len(house.studio.backend_rows) == 1


def test_connecting_at_each_start_tries_nothing(house):
    """`brushloop up` connects whenever it starts."""
    connect(connectable(house), house.project_id)
    assert "upload_images" not in house.studio.calls


def test_a_config_without_a_brush_names_the_flag(house):
    """Only where there is an image to paint on."""
    with_config(house, '<View><Image name="i" value="$image"/></View>')
    with pytest.raises(LabelConfigError, match="--add-brush"):
        connect(connectable(house), house.project_id)
    with_config(house, '<View><Text name="t" value="$text"/></View>')
    with pytest.raises(LabelConfigError) as caught:
        connect(connectable(house), house.project_id)
    assert "--add-brush" not in str(caught.value)


def test_random_pictures_of_trials_differ(house):
    """No browser's or proxy's memory can pass for the image."""
    sent = []
    upload = house.studio.upload_images
    house.studio.upload_images = lambda number, files: (
        sent.append(files[0][1]) or upload(number, files)
    )
    for _ in range(2):
        try_write_path(house.context, house.project)
    assert sent[0] != sent[1]
    assert np.frombuffer(sent[0][:4], np.uint8).tolist() == [137, 80, 78, 71]
