"""What a person does in the browser, through the API."""

from ml_backend.studio.client import Studio


class PersonsStudio(Studio):
    """The client, with a person's hands."""

    def skip(self, task_id):
        """Press Skip; the annotation's id."""
        body = {"result": [], "was_cancelled": True}
        return self._http.json("POST", f"/api/tasks/{task_id}/annotations/", body=body)["id"]

    def edit_annotation(self, annotation_id, result):
        """Press Update."""
        self._http.json("PATCH", f"/api/annotations/{annotation_id}/", body={"result": result})

    def set_ground_truth(self, annotation_id, value=True):
        """Press the star."""
        body = {"ground_truth": value}
        self._http.json("PATCH", f"/api/annotations/{annotation_id}/", body=body)

    def take_back_skip(self, annotation_id):
        """Press Cancel skip."""
        body = {"was_cancelled": False}
        self._http.json("PATCH", f"/api/annotations/{annotation_id}/", body=body)

    def delete_annotation(self, annotation_id):
        """Delete."""
        self._http.json("DELETE", f"/api/annotations/{annotation_id}/")

    def edit_task(self, task_id, data):
        """Change the data."""
        self._http.json("PATCH", f"/api/tasks/{task_id}/", body={"data": data})

    def delete_task(self, task_id):
        """Delete."""
        self._http.json("DELETE", f"/api/tasks/{task_id}/")

    def make_view(self, project_id, data):
        """Press the plus."""
        body = {"project": project_id, "data": data}
        return self._http.json("POST", "/api/dm/views/", body=body)["id"]

    def listed(self, view_id):
        """Look at a tab: its tasks from top to bottom."""
        answer = self._http.json("GET", "/api/tasks", params={"view": view_id, "page_size": 1000})
        return [row["id"] for row in answer["tasks"]]
