"""The trial in the real Label Studio: what it leaves, what it wakes, and a template's brush."""

import itertools
import re
import sys

import pytest
from support.backend import TinyBackend
from support.commands import complaint, run
from support.label_studio import LabelStudio

from ml_backend.loop.context import open_context
from ml_backend.loop.trial import remove_trials, try_write_path
from ml_backend.settings import load_settings
from ml_backend.studio.client import Studio

pytestmark = pytest.mark.studio

_titles = itertools.count(1)
BRUSH = '<BrushLabels name="b" toName="i"><Label value="cell"/><Label value="rim"/></BrushLabels>'
FINE = {
    "plain": '<Image name="i" value="$image"/>',
    "path": '<Image name="i" value="$image.url"/>',
    "item": '<Image name="i" value="$images[0]"/>',
    "second key": '<Image name="i" value="$image"/><Text name="t" value="$caption"/>',
    "second image": '<Image name="i" value="$image"/><Image name="j" value="$other"/>',
}
# As Label Studio 1.23.2 has it in its gallery.
TEMPLATE = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="Airplane" background="green"/>
    <Label value="Car" background="blue"/>
  </RectangleLabels>
</View>"""


@pytest.fixture
def backend():
    """A backend to connect to."""
    with TinyBackend() as backend:
        yield backend


@pytest.fixture
def studio(label_studio: LabelStudio, backend, tmp_path, monkeypatch):
    """A client, and an environment in which commands find this Label Studio."""
    values = {
        "HOME": tmp_path / "home",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.personal_token,
        "BACKEND_URL": backend.url,
        "PASSWORD": "correct-horse",
        "WEBHOOK_SECRET": "battery-staple",
    }
    monkeypatch.setattr(sys, "argv", ["brushloop"])
    for name, value in values.items():
        monkeypatch.setenv(f"BRUSHLOOP_{name}", str(value))
    with Studio(label_studio.url, label_studio.personal_token) as client:
        yield client


def shown(studio, project_id):
    """All that Label Studio tells of a project, but when it was looked at."""
    raw = studio._http.json("GET", f"/api/projects/{project_id}")
    return {key: value for key, value in raw.items() if "updated" not in key}


@pytest.mark.parametrize("image", FINE.values(), ids=FINE)
def test_a_config_that_works_is_connected_and_nothing_stays(studio, backend, image):
    """Whatever names the image: the trial comes and goes, and wakes no training."""
    info = studio.create_project(f"trial {next(_titles)}", f"<View>{image}{BRUSH}</View>")
    before = shown(studio, info.id)
    output = run("connect", "--project", str(info.id))
    assert f"images load at {studio.url}" in output
    assert studio.count_tasks(info.id) == 0
    assert studio.uploads(info.id) == []
    after = shown(studio, info.id)
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"model_version", "start_training_on_annotation_update"}

    backend.received.clear()
    with open_context(load_settings()) as context:  # as the doctor does, with the webhook there
        try_write_path(context, context.catalog.projects.get(info.id))
        events = [request.body for request in backend.to("/webhook")]
        assert {event["action"] for event in events} <= {"TASKS_DELETED"}
        for event in events:
            assert not context.catalog.work.any_task([task["id"] for task in event["tasks"]])
        assert backend.to("/predict") == []
    assert shown(studio, info.id) == after


def test_what_a_killed_trial_left_goes_with_the_next(studio):
    """In the real data manager marked tasks are found among others."""
    info = studio.create_project(f"trial {next(_titles)}", f"<View>{FINE['plain']}{BRUSH}</View>")
    (url,) = studio.upload_images(info.id, [("brushloop-trial.png", b"no picture")])
    (mine,) = studio.upload_images(info.id, [("mine.png", b"a picture")])
    _, kept = studio.import_tasks(
        info.id, [{"data": {"image": url, "brushloop_trial": 1}}, {"data": {"image": mine}}]
    )
    with open_context(load_settings()) as context:
        remove_trials(context, info.id)
        remove_trials(context, info.id)
    assert [task.id for task in studio.read_tasks(info.id, range(1, kept + 1))] == [kept]
    assert studio.uploads(info.id) == [mine]


def test_a_template_without_a_brush_gets_one(studio):
    """The refusal names the flag, the diff is shown, and tasks can be pushed afterwards."""
    info = studio.create_project(f"trial {next(_titles)}", TEMPLATE)
    words = ("connect", "--project", str(info.id))
    assert f"`brushloop connect --project {info.id} --add-brush`" in complaint(*words)
    assert studio.get_project(info.id).label_config == info.label_config
    output = run(*words, "--add-brush", "--yes")
    assert re.search(r"^\+ *<BrushLabels ", output, re.MULTILINE)
    assert not re.search(r"^-[^-]", output, re.MULTILINE)
    assert "images load" in output
    changed = studio.get_project(info.id).label_config
    assert "<BrushLabels" in changed
    assert "<RectangleLabels" in changed
    with open_context(load_settings()) as context:
        project = context.catalog.projects.get(info.id)
        assert context.labels(project).names == ("Airplane", "Car")
    assert "has a brush" in run(*words, "--add-brush", "--yes")
    assert studio.get_project(info.id).label_config == changed


def test_the_doctor_tries_it_too(studio):
    """A config that was changed after connecting to one that cannot show uploads is found."""
    info = studio.create_project(f"trial {next(_titles)}", f"<View>{FINE['plain']}{BRUSH}</View>")
    run("connect", "--project", str(info.id))
    broken = '<Image name="i" value="https://images.test/$image"/>'
    studio.set_label_config(info.id, f"<View>{broken}{BRUSH}</View>")
    from ml_backend.host.doctor import examine

    with open_context(load_settings()) as context:
        checks = {one.name: one for one in examine(context, info.id)}
    tried = checks[f"project {info.id} tasks"]
    assert not tried.well
    assert 'value="$image"' in tried.text
    assert checks[f"project {info.id} labels"].well
