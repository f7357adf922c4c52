"""People at a real Label Studio: they log in with a password and answer through its API."""

import itertools

import httpx

_numbers = itertools.count(1)


class Person:
    """One user in a session of their own; `id` is Label Studio's."""

    def __init__(self, url, email, password):
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=60)
        self._http.get("/user/login/").raise_for_status()
        form = {"email": email, "password": password, "csrfmiddlewaretoken": self._csrf}
        self._http.post("/user/login/", data=form, headers=self._headers)
        self.id = self.ask("GET", "/api/current-user/whoami")["id"]

    @classmethod
    def invited(cls, owner, url):
        """A new user, who followed the owner's invitation into the organisation."""
        address = owner.ask("GET", "/api/invite")["invite_url"]
        email, password = f"person{next(_numbers)}@example.com", "correct-horse-battery"
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
            http.get(address).raise_for_status()
            form = {
                "email": email,
                "password": password,
                "csrfmiddlewaretoken": http.cookies["csrftoken"],
            }
            http.post(address, data=form, headers={"Referer": url})
        return cls(url, email, password)

    @property
    def _csrf(self):
        return self._http.cookies["csrftoken"]

    @property
    def _headers(self):
        return {"X-CSRFToken": self._csrf, "Referer": str(self._http.base_url)}

    def ask(self, method, path, body=None):
        """One call of the API; its JSON."""
        answer = self._http.request(method, path, json=body, headers=self._headers)
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def close(self):
        """Log out."""
        self._http.close()

    def submit(self, task_id, result):
        """Press Submit; the annotation's id."""
        return self._answer(task_id, {"result": result})

    def skip(self, task_id, result=()):
        """Press Skip, with or without having drawn; the annotation's id."""
        return self._answer(task_id, {"result": list(result), "was_cancelled": True})

    def change(self, annotation_id, **fields):
        """Update, star, or take a skip back."""
        self.ask("PATCH", f"/api/annotations/{annotation_id}/", fields)

    def draw(self, task_id, result, annotation_id=None):
        """Draw without submitting: Label Studio keeps a draft, of the task or an annotation."""
        of = f"annotations/{annotation_id}/" if annotation_id else ""
        self.ask("POST", f"/api/tasks/{task_id}/{of}drafts", {"result": result})

    def _answer(self, task_id, body):
        return self.ask("POST", f"/api/tasks/{task_id}/annotations/", body)["id"]
