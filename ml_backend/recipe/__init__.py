"""The project: `configs/*.yaml` → one frozen `Recipe`.

Every key has a default, so a recipe file says only what differs. Unknown keys and
impossible combinations are refused with the key's path. One module a group of sections.
"""

from ml_backend.recipe.asking import Scoring, Selection
from ml_backend.recipe.images import Images, choose_pages
from ml_backend.recipe.network import UNETS, Network
from ml_backend.recipe.prediction import Instances, Prediction
from ml_backend.recipe.pretraining import Pretraining
from ml_backend.recipe.project import Advice, Annotators, Labels, Loop, Pool
from ml_backend.recipe.training import Training, Tuning, Validation
from ml_backend.recipe.whole import Recipe, load_recipe, parse_recipe

__all__ = [
    "UNETS",
    "Advice",
    "Annotators",
    "Images",
    "Instances",
    "Labels",
    "Loop",
    "Network",
    "Pool",
    "Prediction",
    "Pretraining",
    "Recipe",
    "Scoring",
    "Selection",
    "Training",
    "Tuning",
    "Validation",
    "choose_pages",
    "load_recipe",
    "parse_recipe",
]
