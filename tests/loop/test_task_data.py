"""Data of pushed tasks: whatever names the image, with all keys that the labeling config wants."""

import pytest

from ml_backend.errors import LabelConfigError
from ml_backend.masks.labels import make_label_config


def configured(house, image, more=""):
    """Give the project's config another <Image> value and further tags, as a person would."""
    config = make_label_config(["cell"]).replace('value="$image"', image)
    config = config.replace("</View>", f"{more}</View>")
    house.studio.projects[house.project_id]["label_config"] = config
    house.step("sync")
    return house


def data(house):
    """The data of all tasks."""
    return [row["data"] for row in house.studio.tasks.values()]


@pytest.mark.parametrize(
    "image", ['value="$image.url"', 'value="$images[0]"', 'valueList="$pages"', 'value="/data/$f"']
)
def test_tasks_name_their_image_as_the_config_wants(house, image):
    """Pushed tasks are read back as the same tiles, and keep their round when they are pulled."""
    configured(house, image)
    house.fill(8)
    assert house.step("select").numbers["pushed"] == 4
    addresses = {house.labels.image.read(row) for row in data(house)}
    assert addresses == set(house.studio.files)
    house.answer_open()
    house.step("sync")
    assert len(house.catalog.work.labelled(house.project_id)) == 4
    assert house.studio.calls.count("download") == 0


def test_further_keys_are_filled_as_the_recipe_says(house):
    """Without a word of the recipe they are empty, or show the same image."""
    more = '<Text name="t" value="$caption"/><Image name="o" value="$other"/>'
    configured(house, 'value="$image"', more)
    house.recipe({"selection.batch": 2})
    house.fill(8)
    house.step("select")
    for row in data(house):
        assert (row["caption"], row["other"]) == ("", row["image"])
    house.recipe({"pool.data": {"caption": "Field {name}", "other": "{image}?small"}})
    house.answer_open()
    house.step("sync")
    before = len(data(house))
    house.step("select")
    for row in data(house)[before:]:
        assert row["caption"] == f"Field {row['name']}"
        assert row["other"] == f"{row['image']}?small"


def test_text_before_the_variable_fits_what_the_recipe_refers_to(house):
    """Where the pool is below that address, the variable holds the rest of it."""
    configured(house, 'value="/data/local-files/?d=$file"')
    house.recipe({"pool.reference": "/data/local-files/?d=scans"})
    house.fill(8)
    house.step("select")
    assert all(row["file"] == f"scans/{row['name']}" for row in data(house))
    assert house.studio.files == {}


def test_a_config_that_cannot_show_the_image_leaves_nothing_behind(house):
    """The tag is named before anything is uploaded, and no round is recorded."""
    configured(house, 'value="/data/local-files/?d=$file"')
    house.fill(8)
    with pytest.raises(LabelConfigError, match='<Image name="image"> of the labeling config'):
        house.step("select")
    assert house.studio.files == {}
    assert house.studio.tasks == {}
    assert house.catalog.rounds.all(house.project_id) == []
    configured(house, 'value="$image"')
    assert house.step("select").numbers["pushed"] == 4
