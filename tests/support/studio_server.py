"""The fake Label Studio behind real HTTP: what `Studio` asks, down to tokens and broken answers.

As the real data manager does, `/api/tasks` first chooses the ids of a page and then reads those
tasks anew; `between` is called there. `tests/loop/test_fake_studio.py` holds it to the real one.
"""

import base64
import email.parser
import email.policy
import json
import operator
import re
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from ml_backend.errors import StudioError

from .fake_studio import FakeStudio

LEGACY = "0123456789" * 4
_COMPARE = {
    "equal": operator.eq,
    "greater": operator.gt,
    "greater_or_equal": operator.ge,
    "less": operator.lt,
    "less_or_equal": operator.le,
}
_ANNOTATION = [
    "id", "result", "was_cancelled", "ground_truth", "completed_by", "lead_time", "created_at",
    "updated_at", "parent_prediction", "parent_annotation",
]  # fmt: skip
_PREDICTION = ["id", "result", "score", "model_version", "created_at", "updated_at"]


class Cut(Exception):
    """The connection breaks in the middle of the answer."""


class Answer(Exception):
    """Another answer than the usual one: a status and a JSON body."""

    def __init__(self, status, body=None, **headers):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class StudioServer:
    """Serves `fake` on a free port while entered; `with StudioServer(fake) as server`.

    `trouble(method, path)` is called before each request is answered and may raise `Cut` or
    `Answer`; `between()` between the choice of a page's tasks and their reading. `requests` are
    those that were answered, as "GET /api/tasks"; a legacy token holds while it is in `legacy`,
    an access token while it is in `access`.
    """

    def __init__(self, fake=None):
        self.fake = fake or FakeStudio()
        self.trouble = lambda method, path: None  # noqa: ARG005
        self.between = lambda: None
        self.routes = [*_ROUTES]
        self.requests = []
        self.legacy = {LEGACY}
        self.refresh = {_jwt("refresh", 0)}
        self.access = set()
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.studio = self
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @property
    def personal_token(self):
        """A token that is exchanged for access tokens."""
        return min(self.refresh, default="")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def exchange(self, token):
        """Give an access token for a personal one."""
        if token not in self.refresh:
            raise Answer(401, {"detail": "Token is blacklisted"})
        made = _jwt("access", len(self.requests))
        self.access.add(made)
        return {"access": made}

    def allows(self, header):
        """Whether an `Authorization` header is worth anything."""
        kind, _, token = (header or "").partition(" ")
        return token in {"Token": self.legacy, "Bearer": self.access}.get(kind, ())

    def tasks(self, params):
        """Answer `GET /api/tasks`."""
        if "view" in params:
            ids = self.fake.listed(int(params["view"]))
            return {"total": len(ids), "tasks": [{"id": number} for number in ids]}
        query = json.loads(params.get("query", "{}"))
        project = int(params["project"])
        rows = _chosen(self.fake.rows(project), query)
        if query["ordering"] != ["tasks:id"]:
            raise Answer(500, {"detail": f"no order by {query['ordering']}"})
        ids = [row["id"] for row in rows[: int(params["page_size"])]]
        self.between()
        if any(number not in self.fake.tasks for number in ids):
            raise Answer(500, {"detail": "KeyError"})
        keys = params["include"].split(",")
        listed = [_task(self.fake.tasks[number], keys, params.get("fields")) for number in ids]
        return {"total": len(rows), "tasks": listed}


def _chosen(rows, query):
    """Those that are selected and meet all conditions."""
    selected = query.get("selectedItems")
    if selected is not None:
        wanted = set(selected["included"])
        rows = [row for row in rows if row["id"] in wanted]
    for item in query.get("filters", {}).get("items", ()):
        column, value = item["filter"].removeprefix("filter:tasks:"), item["value"]
        meets = _COMPARE[item["operator"]]
        if column.startswith("data."):
            key = column.removeprefix("data.")
            rows = [row for row in rows if key in row["data"] and meets(row["data"][key], value)]
        else:
            rows = [row for row in rows if meets(row[column], value)]
    return rows


def _task(row, keys, fields):
    """Show a task as the data manager does: `include` filters what is nested as well."""
    shown = {key: row[key] for key in ("id", "data", "meta", "updated_at") if key in keys}
    for name, all_keys in (("annotations", _ANNOTATION), ("predictions", _PREDICTION)):
        if name in keys and fields == "all":
            chosen = [key for key in all_keys if key in keys]
            shown[name] = [{key: item[key] for key in chosen} for item in row[name]]
    return shown


def _jwt(kind, number):
    def part(content):
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'kind': kind, 'n': number, 'exp': 2**40})}.c2ln"


class _Handler(BaseHTTPRequestHandler):
    """One request; `self.server.studio` is what it is about."""

    @property
    def studio(self):
        return self.server.studio

    def _answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        path = urlsplit(self.path).path
        try:
            with self.studio.lock:
                self.studio.trouble(self.command, path)
                status, content, headers = self._content(path, body)
                self.studio.requests.append(f"{self.command} {path}")
        except Cut:
            self._send(200, b'{"tasks": [' + b" " * 1000, {}, cut=True)
        except Answer as answer:
            self._send(answer.status, orjson.dumps(answer.body), answer.headers)
        except StudioError as error:
            self._send(404, orjson.dumps({"detail": str(error)}), {})
        else:
            self._send(status, content, headers)

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PATCH(self):
        self._answer()

    def do_DELETE(self):
        self._answer()

    def _content(self, path, body):
        if path.startswith("/bucket/"):  # what a presigned address points to: no token
            return self._file(f"s3:/{path}")
        if path == "/api/token/refresh/":
            return 200, orjson.dumps(self.studio.exchange(json.loads(body)["refresh"])), {}
        if not self.studio.allows(self.headers.get("authorization")):
            raise Answer(401, {"detail": "Invalid token."})
        params = {key: value[-1] for key, value in parse_qs(urlsplit(self.path).query).items()}
        if path.startswith("/data/"):
            return self._file(unquote(self.path))
        if path.endswith("/resolve/"):
            uri = base64.urlsafe_b64decode(params["fileuri"]).decode()
            host = self.studio.url.replace("127.0.0.1", "localhost")
            raise Answer(303, Location=host + uri.removeprefix("s3:/") + "?X-Amz-Signature=1")
        for method, pattern, route in self.studio.routes:
            matched = re.fullmatch(pattern, path)
            if matched and method == self.command:
                numbers = [int(part) for part in matched.groups()]
                given = self._given(body)
                answer = route(self.studio, params, given, *numbers)
                return 200, orjson.dumps(answer), {}
        raise Answer(404, {"detail": f"{self.command} {path} is not faked"})

    def _given(self, body):
        kind = self.headers.get("content-type", "")
        if not kind.startswith("multipart/"):
            return orjson.loads(body) if body else None
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        parts = parser.parsebytes(f"content-type: {kind}\r\n\r\n".encode() + body)
        return [(part.get_filename(), part.get_content()) for part in parts.iter_parts()]

    def _file(self, url):
        data = self.studio.fake.files.get(url)
        if data is None:
            raise Answer(404, {"detail": "Not found."})
        start = int(self.headers["range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return 206, data[start:], {"Content-Range": span}

    def _send(self, status, content, headers, *, cut=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) * (2 if cut else 1)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def date_time_string(self, timestamp=None):  # noqa: ARG002
        now = self.studio.fake.clock.replace(tzinfo=UTC)
        return format_datetime(datetime.fromtimestamp(int(now.timestamp()), UTC), usegmt=True)

    def log_message(self, *_):
        """Stay silent."""


def _project(server, _params, _given, number):
    info = server.fake.get_project(number)
    return vars(info) | {"task_number": info.task_count}


def _patch_project(server, _params, given, number):
    server.fake.set_model_version(number, given["model_version"], sampling=given.get("sampling"))
    return _project(server, {}, None, number)


def _projects(server, params, _given):
    found = server.fake.find_project(params["title"])
    return {"results": [_project(server, {}, None, found.id)] if found else [], "next": None}


def _make_project(server, _params, given):
    made = server.fake.create_project(given["title"], given["label_config"])
    return _project(server, {}, None, made.id)


def _import(server, params, given, number):
    if params.get("commit_to_project") == "false":
        urls = server.fake.upload_images(number, given)
        return {"file_upload_ids": [list(server.fake.files).index(url) for url in urls]}
    return {"task_ids": server.fake.import_tasks(number, given)}


def _uploads(server, params, _given, _number):
    urls = list(server.fake.files)
    return [
        {
            "id": index,
            "file": urls[index].removeprefix("/data/"),
            "size": len(server.fake.files[urls[index]]),
        }
        for index in json.loads(params["ids"])
    ]


def _get_task(server, _params, _given, number):
    server.fake.get_task(number)
    return server.fake.tasks[number]


def _delete_task(server, _params, _given, number):
    server.fake.delete_task(number)


def _annotate(server, _params, given, number):
    result = given.pop("result")
    return {"id": server.fake.create_annotation(number, result, **given)}


def _edit(server, _params, given, number):
    if "result" in given:
        server.fake.edit_annotation(number, given["result"])
    elif "ground_truth" in given:
        server.fake.set_ground_truth(number, given["ground_truth"])
    else:
        server.fake.take_back_skip(number)
    return {}


def _delete(server, _params, _given, number):
    server.fake.delete_annotation(number)


def _patch_task(server, _params, given, number):
    server.fake.edit_task(number, given["data"])
    return {}


def _views(server, params, _given):
    rows = server.fake.view_rows.items()
    project = int(params["project"])
    return [{"id": number} | row for number, row in rows if row["project"] == project]


def _make_view(server, _params, given):
    return {"id": server.fake.make_view(given["project"], given["data"])}


def _patch_view(server, _params, given, number):
    server.fake.view_rows[number]["data"] = given["data"]
    return {}


def _delete_view(server, _params, _given, number):
    server.fake.delete_view(number)


def _predict(server, _params, given):
    server.fake.add_predictions([given], moves=True)
    return {}


def _predict_many(server, _params, given, _number):
    server.fake.add_predictions(given, moves=False)
    return {}


_ROUTES = [
    ("GET", r"/api/projects/(\d+)", _project),
    ("PATCH", r"/api/projects/(\d+)", _patch_project),
    ("GET", "/api/projects", _projects),
    ("POST", "/api/projects", _make_project),
    ("POST", r"/api/projects/(\d+)/import", _import),
    ("GET", r"/api/projects/(\d+)/file-uploads", _uploads),
    ("GET", "/api/tasks", lambda server, params, _given: server.tasks(params)),
    ("GET", r"/api/tasks/(\d+)", _get_task),
    ("PATCH", r"/api/tasks/(\d+)/", _patch_task),
    ("DELETE", r"/api/tasks/(\d+)/", _delete_task),
    ("POST", r"/api/tasks/(\d+)/annotations/", _annotate),
    ("PATCH", r"/api/annotations/(\d+)/", _edit),
    ("DELETE", r"/api/annotations/(\d+)/", _delete),
    ("GET", "/api/dm/views/", _views),
    ("POST", "/api/dm/views/", _make_view),
    ("PATCH", r"/api/dm/views/(\d+)/", _patch_view),
    ("DELETE", r"/api/dm/views/(\d+)/", _delete_view),
    ("POST", "/api/predictions", _predict),
    ("POST", r"/api/projects/(\d+)/import/predictions", _predict_many),
]
