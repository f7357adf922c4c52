"""No body whatsoever makes the backend fail."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import SECRET

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
projects = (
    st.integers()
    | st.from_regex(r"\d{1,30}\.\d+", fullmatch=True)
    | st.fixed_dictionaries(
        {"id": st.integers(-1, 9) | anything},
        optional={"title": anything, "label_config": anything},
    )
    | anything
)
tasks = st.fixed_dictionaries({}, optional={"id": anything, "data": anything, "meta": anything})
actions = st.sampled_from(["START_TRAINING", "ANNOTATION_CREATED", "PROJECT_UPDATED"])
bodies = {
    "/predict": st.fixed_dictionaries(
        {"project": projects, "tasks": st.lists(tasks, max_size=3) | anything},
        optional={"label_config": anything, "params": anything},
    ),
    "/setup": st.fixed_dictionaries(
        {"project": projects}, optional={"schema": anything, "extra_params": anything}
    ),
    "/webhook": st.fixed_dictionaries(
        {"action": actions | st.text(max_size=9)},
        optional={"project": projects, "annotation": anything},
    ),
}


@pytest.mark.parametrize("path", sorted(bodies))
@given(data=st.data())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_never_a_500(studio, service, path, data):
    """Every JSON body is either answered or refused with a reason; tasks keep their count."""
    body = data.draw(bodies[path] | anything)
    answer = studio.post(path, content=json.dumps(body).encode(), headers=SECRET)
    assert answer.status_code in {200, 201, 422}
    if answer.status_code == 422:
        assert answer.json()["error"]
    elif path == "/predict":
        assert len(answer.json()["results"]) == len(body["tasks"])
    elif path == "/setup":
        assert answer.json() == {"model_version": service.version}
