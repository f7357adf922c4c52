"""What a recipe asks that a simulation has not: said before anything is trained."""

import hashlib

from ml_backend.errors import ConfigError, WeightsUnavailable
from ml_backend.loop.encoders import is_project_made
from ml_backend.loop.labels import check_keys
from ml_backend.loop.mask_folder import check_recipe
from ml_backend.loop.simulate.plan import Plan
from ml_backend.recipe import Network


def check(plan: Plan) -> None:
    """Raise `ConfigError` with the key of whatever the recipe wants and cannot be simulated.

    It is what needs a project's state, and names of labels that are not learned from the masks.
    """
    labels = check_recipe(plan.recipe, plan.source.labels)
    check_keys(plan.recipe, labels.names, "the simulation")
    _check_network(plan.recipe.network)


def _check_network(network: Network) -> None:
    if is_project_made(network):
        raise ConfigError(
            f"the recipe's network.encoder_weights {network.encoder_weights} was made for a "
            "project of a home folder, and a simulation has neither: name a file of weights, such "
            "as the one that `brushloop pretrain IMAGES` writes, a name of the hub, or null"
        )


def fetch_encoder(network: Network) -> str | None:
    """Have encoder weights at hand before the first training; the SHA-256 of those in a file.

    A simulation never goes on without them: a curve of other weights would be a lie. Raises
    `WeightsUnavailable`.
    """
    if network.encoder_weights is None:
        return None
    from ml_backend.learning.networks import build_network

    build_network(network, 1, seed=0)
    if network.weights_file is None:
        return None
    try:
        with network.weights_file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsUnavailable(
            f"encoder weights {network.weights_file} cannot be read: {error.strerror}"
        ) from None
