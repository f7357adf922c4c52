"""Connecting, checking and forgetting on the command line."""

import json

import pytest
from support.commands import complaint, run
from typer.testing import CliRunner

from ml_backend.cli import app
from ml_backend.host import doctor


def test_forgetting_asks_first(house):
    """It shows what will go; without a yes nothing goes."""
    house.fill(4)
    words = ("forget", "--project", str(house.project_id))
    assert CliRunner().invoke(app, list(words)).exit_code == 1
    assert len(house.catalog.pool.images(house.project_id)) == 4
    output = run(*words, "--yes")
    assert "4 images, 4 tiles" in output
    assert f"project {house.project_id} is forgotten" in output
    assert house.catalog.projects.all() == []
    assert "nothing is kept of project" in complaint(*words, "--yes")


def test_a_deleted_project_is_said_once_with_the_way_out(house):
    """`status` and `doctor` name it, and the doctor does not go on about backend and webhook."""
    del house.studio.projects[house.project_id]
    way_out = f"brushloop forget --project {house.project_id}"
    assert way_out in complaint("sync", "--here")
    assert run("status").count(way_out) == 1
    checks = doctor.examine(house.context, house.project_id)
    mine = [one for one in checks if one.name.startswith("project")]
    assert len(mine) == 1
    assert way_out in mine[0].text


@pytest.mark.usefixtures("house")
def test_the_doctor_prints_json():
    """Every check with its name, whether all is well, and what was found; 1 where one is not."""
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    checks = json.loads(result.output)["checks"]
    assert {"redis", "disk", "label studio"} <= {one["name"] for one in checks}
    assert all(set(one) == {"name", "well", "text"} for one in checks)
