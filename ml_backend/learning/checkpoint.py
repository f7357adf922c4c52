"""A training's state in one file, written whole or not at all.

Tensors are safetensors; everything else is JSON in the same file's header, so that the two
can never disagree.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ml_backend.errors import StoreError

Tensors = dict[str, Tensor]


def save_checkpoint(path: Path, groups: Mapping[str, Tensors], record: Mapping[str, Any]) -> None:
    """Replace `path` by groups of named tensors and a JSON-able record. Raises `StoreError`."""
    flat = {
        f"{group}/{name}": value.detach().cpu().contiguous()
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(flat, partial, metadata={"record": json.dumps(record)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"checkpoint {path} cannot be written: {error}") from error


def load_checkpoint(
    path: Path, fingerprint: str | None
) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Groups and record of the checkpoint whose record carries `fingerprint`; else two empties.

    None takes whichever is there. A missing or damaged file and another training's checkpoint
    mean: begin at the beginning.
    """
    groups: dict[str, Tensors] = {}
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads(file.metadata()["record"])
            if fingerprint is not None and record["fingerprint"] != fingerprint:
                return {}, {}
            for key in file.keys():  # noqa: SIM118  a handle, not a mapping
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}, {}
    return groups, record


def fingerprint(parts: Iterable[str], tensors: Mapping[str, Tensor] | None) -> str:
    """A digest of what decides a training's outcome, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    for name, value in sorted((tensors or {}).items()):
        digest.update(name.encode() + b"\0")
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
