"""Prose is held to code: whatever has a name has its line, and no line outlives its name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from ml_backend.cli import app
from ml_backend.export import EXPORTERS
from ml_backend.learning.augment import AUGMENTATIONS
from ml_backend.learning.losses import LOSSES
from ml_backend.learning.passes import PASSES
from ml_backend.learning.views import VIEWS
from ml_backend.masks.classical import METHODS
from ml_backend.recipe import Recipe, load_recipe
from ml_backend.registry import Registry
from ml_backend.selection.strategies import STRATEGIES
from ml_backend.selection.uncertainty import REDUCTIONS, SCORES
from ml_backend.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
FAMILIES = {
    "Losses": LOSSES,
    "Augmentations": AUGMENTATIONS,
    "Scores": SCORES,
    "Reductions": REDUCTIONS,
    "Passes": PASSES,
    "Views": VIEWS,
    "Strategies": STRATEGIES,
    "Export formats": EXPORTERS,
}


def read(name: str) -> str:
    """The text of one document."""
    return (DOCS / name).read_text(encoding="utf-8")


def _name(path: Path) -> str:
    """A document's path in the repository."""
    return path.relative_to(ROOT).as_posix()


def table(text: str) -> dict[str, list[str]]:
    """First cell (a name in backticks) → the other cells, of every table row in `text`."""
    rows = re.findall(r"^\| `([^`]+)` \| (.*\S) \|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in rows}


def recipe_keys(section: BaseModel, path: str = "") -> Iterator[tuple[str, object]]:
    """Dotted path and default of every key."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from recipe_keys(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def commands(command: Any, path: str) -> Iterator[str]:
    """Every command that does something, with its parents' names."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def test_every_setting_has_its_line():
    """docs/settings.md lists exactly the settings there are, with their defaults."""
    expected = {
        f"BRUSHLOOP_{name.upper()}": "none" if field.default is None else f"`{field.default}`"
        for name, field in Settings.model_fields.items()
    }
    assert {name: cells[0] for name, cells in table(read("settings.md")).items()} == expected


def test_every_recipe_key_has_its_line():
    """docs/recipes.md lists exactly the keys there are, with their defaults."""
    expected = {
        key: f"`{yaml.safe_dump(value, default_flow_style=True, width=999).splitlines()[0]}`"
        for key, value in recipe_keys(Recipe())
    }
    assert {name: cells[0] for name, cells in table(read("recipes.md")).items()} == expected


@pytest.mark.parametrize("title", FAMILIES)
def test_every_member_of_a_family_has_its_line(title: str):
    """Each section of docs/recipes.md lists exactly what is registered."""
    family: Registry = FAMILIES[title]
    section = read("recipes.md").split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^- `([^`]+)`: \S", section, re.MULTILINE)) == sorted(family)


def test_every_threshold_method_has_its_line():
    """docs/commands.md lists exactly the methods of `bootstrap`."""
    section = read("commands.md").split("\n## Clean sources\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^- `([^`]+)`: \S", section, re.MULTILINE)) == sorted(METHODS)


def test_every_command_has_its_line():
    """docs/commands.md lists exactly the commands there are."""
    known = sorted(commands(typer.main.get_command(app), "brushloop"))
    assert sorted(table(read("commands.md"))) == known


def test_the_default_recipe_is_the_default():
    """configs/default.yaml changes nothing: its values are the code's."""
    assert load_recipe(ROOT / "configs/default.yaml") == Recipe()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recipes_parse_and_name_what_exists(path: Path):
    """Every recipe in configs/ is valid and names registered functions."""
    recipe = load_recipe(path)
    assert recipe.training.loss in set(LOSSES)
    assert recipe.training.augmentation in set(AUGMENTATIONS)
    assert recipe.scoring.score in set(SCORES)
    assert recipe.scoring.reduction in set(REDUCTIONS)
    assert recipe.selection.strategy in set(STRATEGIES)


@pytest.mark.parametrize("path", [*DOCS.rglob("*.md"), *ROOT.glob("*.md")], ids=_name)
def test_links_lead_somewhere(path: Path):
    """A relative link names a file of the repository, its fragment a heading."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), f"{path.name} links {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
            assert fragment in slugs, f"{path.name} links {target}"


def test_help_names_an_example():
    """`--help` of every command ends with an example that starts with the command itself."""
    root = typer.main.get_command(app)
    for line in commands(root, "brushloop"):
        command = root
        for name in line.split()[1:]:
            command = command.commands[name]
        assert line in (command.epilog or ""), f"{line} shows no example"
