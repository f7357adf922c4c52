"""Lets torchvision be imported beside a torch for which its compiled operators were not built.

segmentation-models-pytorch imports torchvision for its backbones' Python code alone, but
torchvision's import fails when `torchvision::nms` is not declared. Declaring it is enough.
"""

import importlib.util
from pathlib import Path

import torch
from torch import library

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _operators_load() -> bool:
    """Whether torchvision's own `_C` loads; finding the package does not import it."""
    spec = importlib.util.find_spec("torchvision")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for file in (found for folder in folders for found in Path(folder).glob("_C.*")):
        try:
            torch.ops.load_library(str(file))  # type: ignore[no-untyped-call]
        except (OSError, ImportError):
            continue
        return True
    return False


def _declare() -> library.Library | None:
    if _operators_load():
        return None
    declared = library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        declared.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]
    return declared


# The declaration lives as long as this object does.
LIBRARY = _declare()
