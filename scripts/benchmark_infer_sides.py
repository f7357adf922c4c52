"""The calls that `benchmark.py infer` times, each in a process of its own.

    python scripts/benchmark_infer_sides.py ours|bare|monai FOLDER

For every line of its input it calls once, and prints the processor time of that in ms.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml_backend.recipe import Network, Prediction


@dataclass(frozen=True)
class Material:
    """A network that has learned something, an image that it has not seen, and the quickest mode.

    `precision`: of predictions on this machine.
    """

    state: dict[str, Any]
    image_HWC: np.ndarray  # noqa: N815
    precision: str
    network: Network
    prediction: Prediction

    def save(self, folder: Path) -> None:
        """Write all of it into a folder."""
        from safetensors.torch import save_file

        save_file(self.state, folder / "state.safetensors")
        np.save(folder / "image.npy", self.image_HWC)
        settings = {
            "precision": self.precision,
            "network": self.network.model_dump(mode="json"),
            "prediction": self.prediction.model_dump(mode="json"),
        }
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def load_material(folder: Path) -> Material:
    """Read what `Material.save` has written."""
    from safetensors.torch import load_file

    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return Material(
        load_file(folder / "state.safetensors"),
        np.load(folder / "image.npy"),
        settings["precision"],
        Network.model_validate(settings["network"]),
        Prediction.model_validate(settings["prediction"]),
    )


def predictor_of(material: Material, precision: str) -> Any:
    """Give the predictor that serves, scores and exports."""
    from ml_backend.learning.inference import predictor_from_state

    return predictor_from_state(
        material.state, material.network, 1, material.prediction, precision=precision
    )


def whole_image(material: Material) -> Callable[[], None]:
    """Make a call of the product's own prediction."""
    predictor = predictor_of(material, material.precision)
    return lambda: predictor.probs(material.image_HWC)


def bare_passes(material: Material) -> Callable[[], None]:
    """Make a call of the network alone: the same windows, normalised before, in the same mode."""
    import torch

    from ml_backend.learning.device import autocast
    from ml_backend.learning.merging import merge_norms
    from ml_backend.learning.networks import (
        channels_last,
        image_stats,
        normalise,
        restore_network,
    )
    from ml_backend.masks.tiles import cut

    network, prediction = material.network, material.prediction
    model = merge_norms(restore_network(material.state, network, 1), 2 * network.multiple)
    channels_last(model)
    image = material.image_HWC
    windows = cut(*image.shape[:2], prediction.window, prediction.overlap)
    size = prediction.batch_size
    stats = np.array([image_stats(image)])
    batches = [
        normalise(
            np.stack([image[window.slices] for window in windows[start : start + size]]), stats
        )
        for start in range(0, len(windows), size)
    ]

    def call() -> None:
        for batch in batches:
            with torch.inference_mode(), autocast(torch.device("cpu"), material.precision):
                model(batch)

    return call


def monai_windows(material: Material) -> Callable[[], np.ndarray]:
    """Make a call of MONAI's sliding windows with the plain network, float32, same overlap."""
    import torch
    from monai.inferers import sliding_window_inference

    from ml_backend.learning.networks import normalise, restore_network, to_probs

    model = restore_network(material.state, material.network, 1).eval()
    model.to(memory_format=torch.contiguous_format)
    prediction = material.prediction

    def call() -> np.ndarray:
        with torch.inference_mode():
            logits = sliding_window_inference(
                normalise(material.image_HWC[None]).contiguous(),
                roi_size=(prediction.window, prediction.window),
                sw_batch_size=prediction.batch_size,
                predictor=model,
                overlap=prediction.overlap / prediction.window,
                mode="gaussian",
            )
            return to_probs(logits)[0].numpy()

    return call


KINDS = {"ours": whole_image, "bare": bare_passes, "monai": monai_windows}


def main() -> None:
    """Time one call for each line of the input."""
    call = KINDS[sys.argv[1]](load_material(Path(sys.argv[2])))
    for _ in sys.stdin:
        start = time.process_time()
        call()
        print(1000 * (time.process_time() - start), flush=True)


if __name__ == "__main__":
    main()
