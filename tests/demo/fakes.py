"""A hand-written Label Studio of one project."""

from ml_backend.errors import StudioRefused
from ml_backend.studio.models import Changes, ProjectInfo, TaskInfo

LABELS = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">
    <Label value="cell" background="#ff0000"/>
    <Label value="nucleus" background="#00ff00"/>
  </BrushLabels>
</View>
"""


class FakeStudio:
    """Keeps tasks and annotations as Label Studio would; any other call fails."""

    def __init__(self, model_version="", labels=LABELS):
        self.model_version = model_version
        self.labels = labels
        self.tasks = {}
        self.submitted = {}

    def push(self, data, *predictions):
        """Make a task with predictions `(model_version, result)`; its id."""
        number = len(self.tasks) + 1
        rows = [
            {"id": 10 * number + index, "model_version": version, "result": result}
            for index, (version, result) in enumerate(predictions)
        ]
        self.tasks[number] = {
            "id": number,
            "data": data,
            "updated_at": f"2025-01-01T00:00:00.{1000 - number:06d}Z",
            "annotations": [],
            "predictions": rows,
        }
        return number

    def get_project(self, project_id):
        """The one project."""
        return ProjectInfo(project_id, "t", self.labels, "2025-01-01", self.model_version, 0)

    def changes(self, project_id):
        """The index of all tasks."""
        assert project_id == 1
        moments = {number: row["updated_at"] for number, row in self.tasks.items()}
        return iter([Changes(len(moments), moments)])

    def read_tasks(self, project_id, ids):
        """Tasks by id, without predictions."""
        assert project_id == 1
        return iter([TaskInfo.parse(self.tasks[n] | {"predictions": []}) for n in sorted(ids)])

    def get_task(self, task_id):
        """One task with everything."""
        return TaskInfo.parse(self.tasks[task_id])

    def create_annotation(self, task_id, result, *, parent_prediction=None, lead_time=None):
        """Submit."""
        if task_id not in self.tasks:
            raise StudioRefused(f"task {task_id} does not exist")
        self.submitted[task_id] = (list(result), parent_prediction, lead_time)
        self.tasks[task_id]["annotations"].append({"id": 1, "result": result})
        return 1
