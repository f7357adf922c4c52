"""Both directions between the real Label Studio and a backend, with a tiny one listening."""

import base64

import pytest
from support.backend import TinyBackend
from support.tasks import region

from ml_backend.errors import StudioRefused
from ml_backend.studio.client import Studio
from ml_backend.studio.models import ProjectInfo

pytestmark = pytest.mark.studio

HEADER = "X-Brushloop-Secret"
SECRET = "a-secret-of-the-test"


def connect(studio: Studio, project: ProjectInfo, backend: TinyBackend, password: str) -> int:
    """Register the tiny backend."""
    return studio.connect_backend(project.id, backend.url, "brushloop", "loop", password)


def test_the_backend_is_asked_with_basic_auth(
    studio: Studio, project: ProjectInfo, tiny_backend: TinyBackend
) -> None:
    """Label Studio checks health and setup with our user and password, then lists it."""
    backend_id = connect(studio, project, tiny_backend, "pass-one")
    (listed,) = studio.backends(project.id)
    assert (listed.id, listed.url, listed.user) == (backend_id, tiny_backend.url, "loop")
    assert (listed.state, listed.model_version) == ("Connected", "tiny-1")
    expected = "Basic " + base64.b64encode(b"loop:pass-one").decode()
    for path in ("/health", "/setup"):
        assert {request.headers["authorization"] for request in tiny_backend.to(path)} == {expected}
    assert tiny_backend.to("/setup")[0].body["project"].split(".")[0] == str(project.id)


def test_connecting_again_changes_the_same_row(
    studio: Studio, project: ProjectInfo, tiny_backend: TinyBackend
) -> None:
    """A second time, with another password, makes no second row and uses the new password."""
    first = connect(studio, project, tiny_backend, "pass-one")
    again = connect(studio, project, tiny_backend, "pass-two")
    assert again == first
    assert len(studio.backends(project.id)) == 1
    expected = "Basic " + base64.b64encode(b"loop:pass-two").decode()
    assert tiny_backend.to("/setup")[-1].headers["authorization"] == expected


def test_a_backend_that_moved_keeps_its_row(
    studio: Studio, project: ProjectInfo, tiny_backend: TinyBackend
) -> None:
    """A new port does not leave a dead row and a dead webhook behind."""
    with TinyBackend() as earlier:
        first = connect(studio, project, earlier, "pass")
        hook = studio.connect_webhook(project.id, f"{earlier.url}/webhook", HEADER, SECRET)
    assert connect(studio, project, tiny_backend, "pass") == first
    moved = studio.connect_webhook(project.id, f"{tiny_backend.url}/webhook", HEADER, SECRET)
    assert moved == hook
    assert [row.url for row in studio.backends(project.id)] == [tiny_backend.url]
    assert [row.url for row in studio.webhooks(project.id)] == [f"{tiny_backend.url}/webhook"]


def test_a_backend_that_is_down_is_refused(studio: Studio, project: ProjectInfo) -> None:
    """Label Studio's own finding is told; no row is made and no password is told."""
    with TinyBackend() as gone:
        pass
    with pytest.raises(StudioRefused, match="health check failed") as caught:
        connect(studio, project, gone, "pass-word")
    assert "pass-word" not in str(caught.value)
    assert studio.backends(project.id) == []


def test_events_arrive_with_the_secret(
    studio: Studio, project: ProjectInfo, tiny_backend: TinyBackend
) -> None:
    """The webhook Label Studio made beside the backend is ours now: one, with the header."""
    connect(studio, project, tiny_backend, "pass")
    url = f"{tiny_backend.url}/webhook"
    assert [hook.url for hook in studio.webhooks(project.id)] == [url]
    hook = studio.connect_webhook(project.id, url, HEADER, SECRET)
    (listed,) = studio.webhooks(project.id)
    assert (listed.id, listed.headers, listed.is_active) == (hook, {HEADER: SECRET}, True)
    assert SECRET not in repr(listed)

    (task_id,) = studio.import_tasks(project.id, [{"data": {"image": "/none.png"}}])
    made = studio.create_annotation(task_id, [region()])
    event = tiny_backend.wait_event("ANNOTATION_CREATED")
    assert event.headers[HEADER.lower()] == SECRET
    assert event.body["project"]["id"] == project.id
    assert event.body["task"]["id"] == task_id
    assert event.body["annotation"]["id"] == made
    actions = {request.body["action"] for request in tiny_backend.to("/webhook")}
    assert "TASKS_CREATED" not in actions


def test_the_webhook_is_made_once(
    studio: Studio, project: ProjectInfo, tiny_backend: TinyBackend
) -> None:
    """Without a backend it is made, a second time changed; twins go, strangers stay."""
    url = f"{tiny_backend.url}/webhook"
    first = studio.connect_webhook(project.id, url, HEADER, "old")
    for other in (url + "/", "http://127.0.0.1:9/stranger"):
        body = {"project": project.id, "url": other, "send_for_all_actions": False}
        studio._http.json("POST", "/api/webhooks/", body=body)
    assert studio.connect_webhook(project.id, f"{url}/", HEADER, SECRET) == first
    hooks = {hook.url: hook for hook in studio.webhooks(project.id)}
    assert sorted(hooks) == sorted(["http://127.0.0.1:9/stranger", url])
    assert hooks[url].headers == {HEADER: SECRET}
