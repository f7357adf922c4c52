"""Model files: `<key>/weights.safetensors` and `<key>/card.json`, published whole or not at all.

The card is written last and holds the checksum of the weights, so a version without a card
does not exist, and a damaged one is never served. A published version keeps its weights for
ever; a new training makes a new version.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import safetensors.numpy
from numpy.typing import NDArray

from ml_backend.errors import ModelFileError, NotFound
from ml_backend.store.blobs import Blobs, natural_order

WEIGHTS = "weights.safetensors"
CARD = "card.json"
_FILE = "file"  # the card's own section: what must be true of the weights


def model_key(project: int, version: str) -> str:
    """Return where the model `version` of `project` is kept."""
    return f"models/{project}/{version}"


def save_model(
    blobs: Blobs, key: str, state: Mapping[str, NDArray[Any]], card: Mapping[str, Any]
) -> dict[str, Any]:
    """Publish `state` (name → array) and its card under `key`; return the card as stored.

    The stored card gains `file = {bytes, sha256}`; numbers that JSON lacks (nan, infinity)
    become null. Publishing the same weights again only renews the card, so a step that was
    killed may simply be run again. Raises `ModelFileError` if other weights are published
    there or the card is not JSON, `StoreError` if the place fails.
    """
    # A plain ascontiguousarray would turn BatchNorm's 0-d counters into vectors.
    data = safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in state.items()})
    seal = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    stored = _card_bytes(key, {**card, _FILE: seal})
    if blobs.exists(f"{key}/{CARD}"):
        if read_card(blobs, key)[_FILE] != seal:
            raise ModelFileError(
                f"{key} in {blobs.url} is already published with other weights; "
                "publish under a new version"
            )
    else:
        blobs.write(f"{key}/{WEIGHTS}", data)
    blobs.write(f"{key}/{CARD}", stored)
    published: dict[str, Any] = orjson.loads(stored)
    return published


def load_model(blobs: Blobs, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return (state, card) of a published version; the arrays are writable.

    Raises `NotFound` for a version without a card, `ModelFileError` for weights that are
    missing, truncated or changed.
    """
    card = read_card(blobs, key)
    return _sealed(blobs, key, WEIGHTS, card[_FILE]), card


def save_sibling(
    blobs: Blobs, key: str, number: int, state: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Write weights that belong to the model under `key`; return their `{bytes, sha256}`.

    They are published with that model: who reads them needs this from its card.
    """
    data = safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in state.items()})
    blobs.write(f"{key}/{_sibling(number)}", data)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def load_sibling(
    blobs: Blobs, key: str, number: int, seal: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """Return the state that was saved as `number` beside the model under `key`.

    Raises `ModelFileError` where the file is gone or not the one of `seal`.
    """
    return _sealed(blobs, key, _sibling(number), seal)


def _sibling(number: int) -> str:
    return f"sibling-{number}.safetensors"


def _sealed(blobs: Blobs, key: str, name: str, seal: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    try:
        data = blobs.read(f"{key}/{name}")
    except NotFound:
        raise ModelFileError(
            f"{key} in {blobs.url} has lost its {name}; restore it or promote another version"
        ) from None
    if len(data) != seal["bytes"] or hashlib.sha256(data).hexdigest() != seal["sha256"]:
        raise ModelFileError(
            f"{key}/{name} in {blobs.url} is damaged: {len(data)} bytes where the card says "
            f"{seal['bytes']}, or another checksum; restore it or promote another version"
        )
    try:
        state: dict[str, NDArray[Any]] = safetensors.numpy.load(data)
    except Exception as error:  # safetensors' own types differ between its versions
        raise ModelFileError(f"{key}/{name} is no safetensors file: {error}") from error
    return state


def read_card(blobs: Blobs, key: str) -> dict[str, Any]:
    """Return the card of a published version without touching its weights.

    Raises `NotFound` if `key` is not published, `ModelFileError` if its card is not a card.
    """
    try:
        data = blobs.read(f"{key}/{CARD}")
    except NotFound:
        raise NotFound(
            f"{blobs.url} has no model {key}; `brushloop models` lists those there are"
        ) from None
    try:
        card = orjson.loads(data)
        seal = card[_FILE]
        whole = isinstance(seal["bytes"], int) and isinstance(seal["sha256"], str)
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        whole = False
    if not whole:
        raise ModelFileError(
            f"{key}/{CARD} in {blobs.url} is not a model's card; "
            "restore it or promote another version"
        )
    published: dict[str, Any] = card
    return published


def list_models(blobs: Blobs, prefix: str = "models") -> list[str]:
    """Return the keys of all published versions below `prefix`, `v9` before `v10`."""
    ending = f"/{CARD}"
    keys = [name.removesuffix(ending) for name in blobs.list(prefix) if name.endswith(ending)]
    return sorted(keys, key=natural_order)


def _card_bytes(key: str, card: Mapping[str, Any]) -> bytes:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    try:
        return orjson.dumps(card, option=options)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ModelFileError(
            f"the card of {key} cannot be written as JSON: {error}; "
            "give it plain numbers, texts, lists and mappings"
        ) from error
