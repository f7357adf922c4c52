"""A Label Studio in memory: what the loop asks of `Studio`, with the real one's stamps.

`updated_at` moves as in the real server: when an annotation is made, edited or deleted, when a
task's data are changed and when a prediction is posted singly; not when predictions are imported
in bulk or with tasks. `tests/loop/test_fake_studio.py` runs the same checks over both.
"""

import copy
import itertools
from datetime import UTC, datetime, timedelta

from ml_backend.errors import ImageUnreadable, StudioMissing, StudioRefused
from ml_backend.studio.models import Changes, ProjectInfo, TaskInfo, User
from ml_backend.studio.views import ViewInfo

_BREAK_EVEN = 20 / 1000  # of the tasks: more predictions than this go in bulk


class FakeStudio:
    """Projects, files, tasks, annotations and predictions.

    `fail` maps a method's name to a function of its number of calls (from 1) that may raise;
    `fail_after` does so when the work has been done, as an answer that got lost. `tick` gives
    the moment of the next thing that happens; they are a second apart.
    """

    url = browser_url = "http://label-studio.test"
    page_path = ""  # below which browsers find it
    index_page = 250
    token_kind = "personal"

    def __init__(self):
        self.projects = {}
        self.files = {}
        self.tasks = {}
        self.backend_rows = []
        self.webhook_rows = []
        self.calls = []
        self.fail = {}
        self.fail_after = {}
        self.imports = []
        self.samplings = {}
        self.view_rows = {}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._ids = itertools.count(1)
        self.tick = lambda: self.now + timedelta(seconds=1)

    @property
    def clock(self):
        """What the last answer's date said, without fractions."""
        return self.now.replace(microsecond=0)

    def sleep(self, seconds):
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def whoami(self):
        """The only user."""
        return User(1, "fake@example.com")

    def version(self):
        """What it stands in for."""
        return "1.23.2"

    def create_project(self, title, label_config):
        """Make a project."""
        number = next(self._ids)
        self.projects[number] = {"title": title, "label_config": label_config, "model_version": ""}
        return self.get_project(number)

    def get_project(self, project_id):
        """One project."""
        if project_id not in self.projects:
            raise StudioMissing(f"GET /api/projects/{project_id}: 404")
        count = sum(task["project"] == project_id for task in self.tasks.values())
        row = self.projects[project_id]
        return ProjectInfo(
            id=project_id, created_at="2026-01-01T00:00:00Z", task_count=count, **row
        )

    def find_project(self, title):
        """The oldest project of this title."""
        found = [number for number, row in self.projects.items() if row["title"] == title]
        return self.get_project(min(found)) if found else None

    def set_model_version(self, project_id, version, *, sampling=None):
        """Remember what is shown, and in which order."""
        self.projects[project_id]["model_version"] = version
        if sampling is not None:
            self.samplings[project_id] = sampling

    def set_label_config(self, project_id, label_config):
        """Change what is labelled."""
        self.projects[project_id]["label_config"] = label_config

    def upload_images(self, project_id, images):
        """Keep files."""
        self._begin("upload_images")
        urls = []
        for name, data in images:
            url = f"/data/upload/{project_id}/{next(self._ids):08x}-{name}"
            self.files[url] = data
            urls.append(url)
        self._end("upload_images")
        return urls

    def uploads(self, project_id):
        """Addresses of a project's files."""
        return [url for url in self.files if url.startswith(f"/data/upload/{project_id}/")]

    def delete_uploads(self, project_id, urls):
        """Forget files."""
        self._begin("delete_uploads")
        gone = set(urls) & set(self.uploads(project_id))
        self.files = {url: data for url, data in self.files.items() if url not in gone}
        return len(gone)

    def download(self, url, *, limit, project_id=None):  # noqa: ARG002
        """Give a file."""
        self._begin("download")
        if url not in self.files:
            raise ImageUnreadable(f"image {url}: not there (any more)")
        if len(self.files[url]) > limit:
            raise ImageUnreadable(f"image {url}: larger than the limit of {limit} bytes")
        return self.files[url]

    def import_tasks(self, project_id, new):
        """Make tasks."""
        self._begin("import_tasks")
        ids = []
        for body in new:
            number, moment = next(self._ids), self._tick()
            self.tasks[number] = {
                "id": number,
                "project": project_id,
                "data": copy.deepcopy(dict(body["data"])),
                "meta": dict(body.get("meta", {})),
                "updated_at": moment,
                "annotations": [],
                "predictions": [],
            }
            for prediction in body.get("predictions", ()):
                self._predict(number, prediction, moment)
            ids.append(number)
        self.imports.append(ids)
        self._end("import_tasks")
        return ids

    def changes(self, project_id, since=None, *, first=1, last=None):
        """Index what changed later than `since`, by id."""
        mark = "" if since is None else since
        known = first - 1
        while True:
            self._begin("changes")
            rows = [
                row
                for row in self.rows(project_id)
                if row["updated_at"] > mark and known < row["id"] <= (last or row["id"])
            ]
            moments = {row["id"]: row["updated_at"] for row in rows[: self.index_page]}
            yield Changes(len(rows), moments)
            if len(rows) <= self.index_page:
                return
            known = max(moments)

    def count_tasks(self, project_id, first=1, last=None):
        """How many tasks have these ids."""
        self._begin("count_tasks")
        ids = [row["id"] for row in self.rows(project_id)]
        return sum(first <= number <= (last or number) for number in ids)

    def read_tasks(self, project_id, ids, *, predictions=False):
        """Tasks whole, one request each."""
        for number in sorted(ids):
            self._begin("read_tasks")
            row = self.tasks.get(number)
            if row is not None and row["project"] == project_id:
                yield TaskInfo.parse(
                    copy.deepcopy(row) | ({} if predictions else {"predictions": []})
                )

    def rows(self, project_id):
        """Tasks of a project as they are stored, by id: in the order in which they were made."""
        return [row for row in self.tasks.values() if row["project"] == project_id]

    def tasks_of_round(self, project_id, number):
        """Tasks whose data name the round."""
        for row in self.tasks.values():
            if row["project"] == project_id and row["data"].get("round") == number:
                yield TaskInfo(row["id"], copy.deepcopy(row["data"]), row["updated_at"])

    def tasks_where(self, project_id, key, number):
        """Tasks whose data say so."""
        self._begin("tasks_where")
        for row in list(self.rows(project_id)):
            if row["data"].get(key) == number:
                yield TaskInfo(row["id"], copy.deepcopy(row["data"]), row["updated_at"])

    def view(self, address):
        """What a browser gets."""
        self._begin("view")
        return self.files.get(address.removeprefix(self.page_path))

    def get_task(self, task_id):
        """One task with everything."""
        if task_id not in self.tasks:
            raise StudioRefused(f"GET /api/tasks/{task_id}: 404")
        return TaskInfo.parse(copy.deepcopy(self.tasks[task_id]))

    def post_predictions(self, project_id, predictions):
        """Add predictions; few of them move their tasks' clocks. Says which tasks are gone."""
        self._begin("post_predictions")
        few = len(predictions) <= self.get_project(project_id).task_count * _BREAK_EVEN
        gone = {row["task"] for row in predictions if row["task"] not in self.tasks}
        self.add_predictions([row for row in predictions if row["task"] not in gone], moves=few)
        self._end("post_predictions")
        return gone

    def add_predictions(self, predictions, *, moves):
        """Add predictions, which moves their tasks' clocks or not."""
        for prediction in predictions:
            if prediction["task"] not in self.tasks:
                raise StudioRefused(f"task {prediction['task']} does not exist")
        for prediction in predictions:
            moment = self._tick()
            self._predict(prediction["task"], prediction, moment)
            if moves:
                self.tasks[prediction["task"]]["updated_at"] = moment

    def create_annotation(
        self,
        task_id,
        result,
        *,
        parent_prediction=None,
        lead_time=None,
        was_cancelled=False,
        author=1,
    ):
        """Submit or skip."""
        moment, number = self._tick(), next(self._ids)
        self.tasks[task_id]["annotations"].append(
            {
                "id": number,
                "result": copy.deepcopy(list(result)),
                "was_cancelled": was_cancelled,
                "ground_truth": False,
                "completed_by": author,
                "lead_time": lead_time,
                "created_at": moment,
                "updated_at": moment,
                "parent_prediction": parent_prediction,
                "parent_annotation": None,
            }
        )
        self.tasks[task_id]["updated_at"] = moment
        return number

    def edit_annotation(self, annotation_id, result):
        """Press Update."""
        task, row = self._annotation(annotation_id)
        moment = self._tick()
        row |= {"result": copy.deepcopy(list(result)), "updated_at": moment}
        task["updated_at"] = moment

    def set_ground_truth(self, annotation_id, value=True):
        """Press the star; the star that another annotation of the task had goes out silently."""
        task, row = self._annotation(annotation_id)
        if value:
            for other in task["annotations"]:
                other["ground_truth"] = False
        moment = self._tick()
        row |= {"ground_truth": value, "updated_at": moment}
        task["updated_at"] = moment

    def take_back_skip(self, annotation_id):
        """Cancel the skip: what was drawn counts again."""
        task, row = self._annotation(annotation_id)
        moment = self._tick()
        row |= {"was_cancelled": False, "updated_at": moment}
        task["updated_at"] = moment

    def edit_task(self, task_id, data):
        """Change a task's data."""
        self.tasks[task_id] |= {"data": dict(data), "updated_at": self._tick()}

    def delete_annotation(self, annotation_id):
        """Delete in the data manager."""
        task, row = self._annotation(annotation_id)
        task["annotations"].remove(row)
        task["updated_at"] = self._tick()

    def delete_task(self, task_id):
        """Delete in the data manager: the task is simply gone."""
        if task_id not in self.tasks:
            raise StudioRefused(f"DELETE /api/tasks/{task_id}: 404")
        del self.tasks[task_id]

    def views(self, project_id):
        """Tabs of a project, in the order in which they were made."""
        self._begin("views")
        return [
            ViewInfo.parse({"id": number} | row)
            for number, row in self.view_rows.items()
            if row["project"] == project_id
        ]

    def make_view(self, project_id, data):
        """Press the plus, or the API."""
        number = next(self._ids)
        self.view_rows[number] = {"project": project_id, "data": copy.deepcopy(data)}
        return number

    def save_view(self, project_id, title, task_ids, *, order):
        """List tasks in a tab; the first tab of all has another beside it."""
        self._begin("save_view")
        items = [
            {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": number}
            for number in task_ids
        ]
        data = {"title": title, "filters": {"items": items}, "ordering": [order]}
        there = self.views(project_id)
        if not there:
            self.make_view(project_id, {"title": "Default"})
        same = [row for row in there if row.title == title and row.task_ids is not None]
        number = same[0].id if same else self.make_view(project_id, {})
        self.view_rows[number]["data"] = data
        self._end("save_view")
        return number

    def delete_view(self, view_id):
        """Close a tab."""
        if view_id not in self.view_rows:
            raise StudioRefused(f"DELETE /api/dm/views/{view_id}/: 404")
        del self.view_rows[view_id]

    def listed(self, view_id):
        """Tasks of a tab as the data manager lists them: a score that there is none of is last."""
        data = self.view_rows[view_id]["data"]
        items = data.get("filters", {}).get("items", ())
        rows = self.rows(self.view_rows[view_id]["project"])
        if items:
            wanted = {item["value"] for item in items}
            rows = [row for row in rows if row["id"] in wanted]
        if data.get("ordering") == ["tasks:predictions_score"]:
            rows.sort(key=self._score)
        return [row["id"] for row in rows]

    def _score(self, row):
        shown = self.projects[row["project"]]["model_version"]
        found = [one["score"] for one in row["predictions"] if one["model_version"] == shown]
        return sum(found) / len(found) if found else float("inf")

    def connect_backend(self, project_id, url, title, user, password):
        """Register once; the backend's title becomes the shown version."""
        self.projects[project_id]["model_version"] = title
        row = (project_id, url, title, user, password)
        if row not in self.backend_rows:
            self.backend_rows.append(row)
        return self.backend_rows.index(row) + 1

    def connect_webhook(self, project_id, url, header_name, secret):
        """Register once."""
        row = (project_id, url, header_name, secret)
        if row not in self.webhook_rows:
            self.webhook_rows.append(row)
        return self.webhook_rows.index(row) + 1

    def disconnect(self, project_id, url, header_name):
        """Remove what connecting made."""
        self._begin("disconnect")
        self.get_project(project_id)
        self.backend_rows = [row for row in self.backend_rows if row[:2] != (project_id, url)]
        self.webhook_rows = [
            row for row in self.webhook_rows if (row[0], row[2]) != (project_id, header_name)
        ]

    def backends(self, project_id):
        """Connected backends of a project."""
        return [row for row in self.backend_rows if row[0] == project_id]

    def webhooks(self, project_id):
        """Webhooks of a project."""
        return [row for row in self.webhook_rows if row[0] == project_id]

    def close(self):
        """Nothing is open."""

    def _tick(self):
        self.now = self.tick()
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _predict(self, task_id, given, moment):
        self.tasks[task_id]["predictions"].append(
            {
                "id": next(self._ids),
                "result": copy.deepcopy(list(given["result"])),
                "score": given.get("score"),
                "model_version": given.get("model_version"),
                "created_at": moment,
                "updated_at": moment,
            }
        )

    def _annotation(self, annotation_id):
        for task in self.tasks.values():
            for row in task["annotations"]:
                if row["id"] == annotation_id:
                    return task, row
        raise StudioRefused(f"annotation {annotation_id}: 404")

    def _begin(self, method):
        self.calls.append(method)
        if method in self.fail:
            self.fail[method](self.calls.count(method))

    def _end(self, method):
        if method in self.fail_after:
            self.fail_after[method](self.calls.count(method))
