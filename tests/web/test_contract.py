"""Label Studio's payloads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import DataError
from ml_backend.web.contract import Event, PredictRequest, SetupRequest, read_payload


@pytest.mark.parametrize("project", ["7", '"7"', '"7.1714000000"', '{"id": 7, "x": []}'])
def test_every_way_to_write_a_project(project):
    """A number, a text with the time of creation and an object mean the same project."""
    body = f'{{"action": "TASKS_CREATED", "project": {project}}}'.encode()
    assert read_payload(Event, body).subject().id == 7
    body = f'{{"project": {project}, "schema": "<View/>", "extra_params": {{}}}}'.encode()
    assert read_payload(SetupRequest, body).project.id == 7


@pytest.mark.parametrize(
    "project", ["true", "7.5", '"x"', '""', "-1", "0", "99999999999", "[7]", "{}", '"\\u0667"']
)
def test_what_is_no_project(project):
    """Anything else is refused with the field's name."""
    body = f'{{"action": "TASKS_CREATED", "project": {project}}}'.encode()
    with pytest.raises(DataError, match="project"):
        read_payload(Event, body).subject()
    with pytest.raises(DataError, match="project"):
        read_payload(SetupRequest, f'{{"project": {project}}}'.encode())


def test_titles_and_labels_are_kept():
    """An update carries the title and the labels; other fields are not looked at."""
    event = read_payload(
        Event,
        b'{"action": "PROJECT_UPDATED", "project": {"id": 2, "title": "t", "label_config": "<V/>",'
        b' "created_by": {"id": 1}}, "annotation": 5}',
    )
    project = event.subject()
    assert (project.id, project.title, project.label_config) == (2, "t", "<V/>")


@pytest.mark.parametrize(
    ("action", "steps"),
    [
        ("START_TRAINING", ("sync", "train")),
        ("ANNOTATION_CREATED", ("sync",)),
        ("ANNOTATIONS_DELETED", ("sync",)),
        ("TASKS_DELETED", ("sync",)),
        ("PROJECT_UPDATED", ("sync",)),
        ("LABEL_LINK_CREATED", ()),
    ],
)
def test_what_an_action_asks_for(action, steps):
    """Training asks for both steps, whatever touches annotations or tasks for sync."""
    event = Event(action=action)
    assert event.steps == steps
    assert event.label == (action if steps else "other")


def test_tasks_need_data():
    """A task without an object under data is refused with its place; extra fields pass."""
    good = b'{"tasks": [{"data": {"image": "/a.png"}, "meta": null}], "project": "1.2"}'
    assert read_payload(PredictRequest, good).tasks[0]["meta"] is None
    with pytest.raises(DataError, match=r"tasks\.0"):
        read_payload(PredictRequest, b'{"tasks": [{"data": "/a.png"}], "project": "1.2"}')


@given(st.binary(max_size=60))
def test_noise_is_refused_shortly(body):
    """Bytes that are no payload end in one short error that does not repeat them."""
    with pytest.raises(DataError) as caught:
        read_payload(PredictRequest, body)
    assert len(str(caught.value)) < 400
