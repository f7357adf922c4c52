"""The two directions between Label Studio and our backend: ML backend and webhook."""

from collections.abc import Mapping
from typing import Any

from ml_backend.studio.models import BackendInfo, WebhookInfo
from ml_backend.studio.transport import Transport

# What changes our masks or our project. TASKS_CREATED is left out: we make the tasks, and
# each event is sent within the request that causes it.
EVENTS = (
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "PROJECT_UPDATED",
    "TASKS_DELETED",
)


def backends(transport: Transport, project_id: int) -> list[BackendInfo]:
    """The project's ML backends. Label Studio asks each for its health to answer."""
    rows = transport.json("GET", "/api/ml", params={"project": project_id})
    return [BackendInfo.parse(row) for row in rows]


def connect_backend(
    transport: Transport, project_id: int, *, url: str, title: str, user: str, password: str
) -> int:
    """Register the backend at `url` with basic authentication → its id in Label Studio.

    The row with this URL is used again, else the one with this title and user: ours, before
    its address changed. Label Studio calls `/health` and `/setup` before it answers.
    """
    url = url.rstrip("/")
    body: dict[str, Any] = {
        "project": project_id,
        "url": url,
        "title": title,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": user,
        "basic_auth_pass": password,
    }
    rows = backends(transport, project_id)
    same_url = [row for row in rows if row.url.rstrip("/") == url]
    moved = [row for row in rows if (row.title, row.user) == (title, user)]
    ours = (same_url or moved)[:1]
    if ours:
        transport.json("PATCH", f"/api/ml/{ours[0].id}", body=body)
        return ours[0].id
    backend_id: int = transport.json("POST", "/api/ml", body=body)["id"]
    return backend_id


def webhooks(transport: Transport, project_id: int) -> list[WebhookInfo]:
    """The project's webhooks."""
    rows = transport.json("GET", "/api/webhooks/", params={"project": project_id})
    return [WebhookInfo.parse(row) for row in rows]


def connect_webhook(
    transport: Transport, project_id: int, *, url: str, header_name: str, secret: str
) -> int:
    """Have events sent to `url` with the header `header_name: secret` → the webhook's id.

    The webhook that Label Studio makes beside a backend is taken over. Others of ours, with
    the same URL or with our header at an earlier address, are removed: they outlive their
    backend and would each delay every Submit.
    """
    url = url.rstrip("/")
    hooks = webhooks(transport, project_id)
    same = [hook for hook in hooks if hook.url.rstrip("/") == url]
    same_ids = {hook.id for hook in same}
    moved = [hook for hook in hooks if hook.id not in same_ids and _has(hook.headers, header_name)]
    ours = [*same, *moved]
    body = {
        "project": project_id,
        "url": url,
        "headers": {header_name: secret},
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": list(EVENTS),
        "is_active": True,
    }
    for orphan in ours[1:]:
        transport.json("DELETE", f"/api/webhooks/{orphan.id}/")
    if ours:
        transport.json("PATCH", f"/api/webhooks/{ours[0].id}/", body=body)
        return ours[0].id
    hook_id: int = transport.json("POST", "/api/webhooks/", body=body)["id"]
    return hook_id


def disconnect(transport: Transport, project_id: int, *, url: str, header_name: str) -> None:
    """Remove the backend at `url` and the webhooks of ours: with that URL, or with our header."""
    url = url.rstrip("/")
    for backend in backends(transport, project_id):
        if backend.url.rstrip("/") == url:
            transport.json("DELETE", f"/api/ml/{backend.id}")
    for hook in webhooks(transport, project_id):
        if hook.url.rstrip("/") == f"{url}/webhook" or _has(hook.headers, header_name):
            transport.json("DELETE", f"/api/webhooks/{hook.id}/")


def _has(headers: Mapping[str, str], name: str) -> bool:
    return name.lower() in {header.lower() for header in headers}
