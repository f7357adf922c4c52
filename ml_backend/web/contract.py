"""What Label Studio sends, as pydantic models: strict on what we use, deaf to the rest."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from ml_backend.errors import DataError

START_TRAINING = "START_TRAINING"
PROJECT_UPDATED = "PROJECT_UPDATED"
TASKS_DELETED = "TASKS_DELETED"
SYNC_ACTIONS = frozenset(
    {
        PROJECT_UPDATED,
        "TASKS_CREATED",
        TASKS_DELETED,
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_UPDATED",
        "ANNOTATIONS_DELETED",
    }
)
MAX_ID = 2**31 - 1  # ids are 32-bit columns, here as in Label Studio
M = TypeVar("M", bound=BaseModel)


def _read_project_id(value: object) -> object:
    """Accept 7, "7" and "7.1714000000" (id and time of creation)."""
    if isinstance(value, str):
        head = value.partition(".")[0]
        if head.isascii() and head.isdigit() and len(head) <= 10:
            return int(head)
    return value


def _read_project(value: object) -> object:
    return value if isinstance(value, Mapping) else {"id": value}


def _check_task(task: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(task.get("data"), dict):
        raise ValueError("a task needs an object under data")  # noqa: TRY004 (pydantic's rule)
    number = task.get("id")
    if number is not None and not (isinstance(number, int) and 0 < number <= MAX_ID):
        raise ValueError("a task's id is a positive integer")
    return task


ProjectId = Annotated[int, Field(strict=True, ge=1, le=MAX_ID), BeforeValidator(_read_project_id)]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Project(_Payload):
    id: ProjectId
    title: str | None = None
    label_config: str | None = None


Project = Annotated[_Project, BeforeValidator(_read_project)]


class SetupRequest(_Payload):
    """`POST /setup`; its `access_token` is useless on new installs and is not read."""

    project: Project
    label_config: str | None = Field(None, alias="schema")


class PredictRequest(_Payload):
    """`POST /predict`, also the interactive one, whose context is not used."""

    tasks: list[Annotated[dict[str, Any], AfterValidator(_check_task)]]
    project: Project
    label_config: str | None = None


class Event(_Payload):
    """`POST /webhook`; the annotations inside are not read: sync fetches what counts."""

    action: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    project: Any = None
    tasks: Any = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that the event asks for; none for an action we do not know."""
        if self.action == START_TRAINING:
            return ("sync", "train")
        return ("sync",) if self.action in SYNC_ACTIONS else ()

    @property
    def deleted(self) -> list[int] | None:
        """Ids of tasks that were deleted; None where the event says nothing of the kind."""
        if self.action != TASKS_DELETED or not isinstance(self.tasks, list):
            return None
        ids = [task.get("id") for task in self.tasks if isinstance(task, Mapping)]
        found = [number for number in ids if isinstance(number, int) and 0 < number <= MAX_ID]
        return found if found and len(found) == len(self.tasks) else None

    @property
    def label(self) -> str:
        """The action's name for logs and metrics, out of a fixed set."""
        return self.action if self.steps else "other"

    def subject(self) -> _Project | None:
        """The project meant; None where Label Studio was told to send no payload.

        Raises `DataError` for anything that is not a project.
        """
        if self.project is None:
            return None
        try:
            return _Project.model_validate(_read_project(self.project))
        except ValidationError as error:
            raise DataError(_explain(error, "project.")) from None


def read_payload(model: type[M], body: bytes) -> M:
    """Check a JSON body. Raises `DataError` that names the first faults, never a value."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise DataError(_explain(error)) from None


def _explain(error: ValidationError, prefix: str = "") -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{prefix}{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
        for fault in faults[:3]
    )
