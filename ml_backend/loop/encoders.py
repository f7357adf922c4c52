"""What an encoder starts from: the names of a recipe, looked up; and what really came of it.

`byol` is the newest self-supervised encoder of the project, `p7-byol2` and `p7-v3` are versions of
any project here, the rest are files and names of the hub. What cannot be had is no reason to stop:
the encoder starts from random weights, it is said, and it stands in the model's card.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.errors import ModelFileError, NotFound, WeightsUnavailable
from ml_backend.recipe import Network
from ml_backend.store.blobs import Blobs
from ml_backend.store.weights import list_models, load_model, model_key, read_card

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

NEWEST = "byol"
_VERSION = re.compile(r"p(\d+)-(byol|v)\d+")


@dataclass(frozen=True)
class EncoderStart:
    """Where an encoder's first weights come from.

    `asked`: what the recipe says. `used`: the name of the weights taken, None for random ones.
    `sha256` of their file, None where it is not known beforehand. `reason`: why they are not those
    that were asked for. `warm`: the version in which they had already been trained further.
    """

    asked: str | None
    used: str | None
    sha256: str | None = None
    reason: str | None = None
    warm: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """For a card."""
        return asdict(self)

    @property
    def note(self) -> str:
        """For people: nothing where all is as it was asked for."""
        return f"; the encoder started from random weights: {self.reason}" if self.reason else ""


Weights = tuple[Network, "Mapping[str, Tensor] | None", EncoderStart]
"""A network to build, its encoder's weights where they are not fetched by name, and the fact."""


def encoders_of(project_id: int) -> str:
    """Return where the self-supervised encoders of a project are kept."""
    return f"encoders/{project_id}"


def start_of(blobs: Blobs, network: Network, project_id: int | None = None) -> EncoderStart:
    """Look up what the recipe asks for, as far as cards and files tell: quick, without a network.

    Without a project, in a folder, there is no newest encoder.
    """
    asked = network.encoder_weights
    try:
        if asked is None or not _is_ours(network):
            return EncoderStart(asked, asked)
        if network.weights_file is not None:
            return EncoderStart(asked, asked, _digest(network.weights_file))
        version = _newest(blobs, project_id) if asked == NEWEST else asked
        return EncoderStart(asked, version, read_card(blobs, _key(version))["file"]["sha256"])
    except (NotFound, ModelFileError, WeightsUnavailable) as error:
        return EncoderStart(asked, None, reason=str(error))


def weights_of(blobs: Blobs, network: Network, start: EncoderStart) -> Weights:
    """Fetch what `start` found; random weights and the reason where that fails.

    Raises `WeightsUnavailable` instead where the recipe requires them.
    """
    from ml_backend.learning.networks import build_network, fill_encoder
    from ml_backend.learning.state import to_tensors

    bare = network.model_copy(update={"encoder_weights": None})
    if start.reason is not None:
        return _without(network, start, WeightsUnavailable(start.reason))
    if start.used is None:
        return bare, None, start
    try:
        if network.weights_file is not None or not _is_ours(network):
            build_network(network, 1, seed=0)
            return network, None, start
        arrays, _ = load_model(blobs, _key(start.used))
        state = to_tensors(arrays)
        fill_encoder(build_network(bare, 1, seed=0), state, f"the encoder weights {start.used}")
    except (WeightsUnavailable, ModelFileError, NotFound) as error:
        return _without(network, start, error)
    return bare, state, start


def _without(network: Network, start: EncoderStart, error: Exception) -> Weights:
    """Go on from random weights, unless the recipe forbids it."""
    if network.require_weights:
        raise WeightsUnavailable(
            f"{error} (network.require_weights forbids to go on without them)"
        ) from error
    log.warning("the encoder starts from random weights: %s", error)
    bare = network.model_copy(update={"encoder_weights": None})
    return bare, None, replace(start, used=None, sha256=None, reason=str(error))


def weights_for(blobs: Blobs, project_id: int | None = None) -> Callable[[Network], Weights]:
    """Look up and fetch in one, for those who try several networks."""
    return lambda network: weights_of(blobs, network, start_of(blobs, network, project_id))


def is_project_made(network: Network) -> bool:
    """Whether the recipe names weights that were made for a project here, by their version."""
    asked = network.encoder_weights or ""
    return asked == NEWEST or bool(_VERSION.fullmatch(asked))


def _is_ours(network: Network) -> bool:
    """Whether the weights are a file or a version, and no name of the hub."""
    return network.weights_file is not None or is_project_made(network)


def _key(version: str) -> str:
    found = _VERSION.fullmatch(version)
    if found is None:
        raise NotFound(f"{version!r} is not the name of a version, such as p7-byol1 or p7-v3")
    project_id, kind = int(found[1]), found[2]
    if kind == "v":
        return model_key(project_id, version)
    return f"{encoders_of(project_id)}/{version}"


def _newest(blobs: Blobs, project_id: int | None) -> str:
    if project_id is None:
        raise NotFound(
            "network.encoder_weights byol is the newest encoder of a project, and this is a "
            "folder: name the file that `brushloop pretrain` wrote"
        )
    found = list_models(blobs, encoders_of(project_id))
    if not found:
        raise NotFound(
            f"project {project_id} has no self-supervised encoder yet: run `brushloop pretrain`"
        )
    return found[-1].rsplit("/", 1)[-1]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsUnavailable(
            f"encoder weights {path} cannot be read: {error.strerror}; name a file that is there, "
            "or null to start from random weights"
        ) from None
