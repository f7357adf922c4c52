"""Whose annotation counts where a tile has several: the recipe's `loop.annotators`."""

from ml_backend.loop.context import Context
from ml_backend.recipe import Annotators
from ml_backend.store.rows import Labelled


def labelled(
    context: Context, project_id: int, policy: Annotators | None = None
) -> list[Labelled]:
    """Masks that count, by tile; `policy` None is the recipe's.

    `latest`: the annotation changed last. `all`: every one, oldest change first.
    `consensus`: one mask merged from all, 255 where too few agree. A ground-truth annotation
    counts alone, whatever the policy.
    """
    recipe = context.catalog.projects.get(project_id).recipe
    return {"latest": context.catalog.work.labelled}[policy or recipe.loop.annotators](project_id)
