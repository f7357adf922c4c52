"""The two sides of `benchmark.py learn`: the product's training, and a plain U-Net's.

Time is the processor's, of all threads of this process: what other processes do on a shared
machine lengthens neither side's.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmark_learn_data import Material
from torch import Tensor, nn

from ml_backend.learning.data import IGNORE, Sample
from ml_backend.learning.inference import predictor_from_state
from ml_backend.learning.metrics import Confusion
from ml_backend.learning.training import train
from ml_backend.recipe import Recipe

CHECKS = 6
"""How often the plain side looks at the validation images, as the default recipe does."""
MEAN, SD = (
    np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)
STRIDE = 32


class Learned(NamedTuple):
    """Label maps of the held-out images, and what the training took."""

    maps: list[np.ndarray]
    seconds: float
    steps: int


def product(material: Material, labels: Sequence[str], recipe: Recipe) -> Learned:
    """Train and predict as `brushloop` does."""
    start = time.process_time()
    trained = train(material.train, material.val, recipe=recipe, classes=len(labels), labels=labels)
    seconds = time.process_time() - start
    predictor = predictor_from_state(trained.state, recipe.network, len(labels), recipe.prediction)
    probs = predictor.probs_many(sample.load()[0] for sample in material.test)
    maps = [one.argmax(axis=0).astype(np.uint8) for one in probs]
    return Learned(maps, seconds, recipe.training.steps)


def plain(material: Material, classes: int, recipe: Recipe, seconds: float) -> Learned:
    """Train an ordinary U-Net for `seconds`, with patches and batches of the recipe's size.

    smp's Unet of a resnet18 from random weights, Adam at 1e-3, Dice plus cross-entropy, random
    crops and flips. Without validation images the last weights count, else the best of `CHECKS`.
    """
    import segmentation_models_pytorch as smp  # after ml_backend, which mends torchvision

    settings = recipe.training
    rng = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        channels = 1 if classes == 1 else classes + 1
        model = smp.Unet("resnet18", encoder_weights=None, classes=channels)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    cost = _cost(classes)
    best, kept, steps, checked = -1.0, None, 0, 0
    start = time.process_time()
    for images, masks in _batches(material.train, settings.patch, settings.batch_size, rng):
        model.train()
        optimizer.zero_grad()
        cost(model(images), masks).backward()
        optimizer.step()
        steps += 1
        used = (time.process_time() - start) / seconds
        if material.val and used * CHECKS >= checked + 1:
            checked = int(used * CHECKS)
            score = count_pixels(_predict(model, material.val), material.val, classes).mean_iou()
            if score >= best:
                best, kept = score, {k: v.clone() for k, v in model.state_dict().items()}
        if used >= 1:
            break
    took = time.process_time() - start
    if kept:
        model.load_state_dict(kept)
    return Learned(_predict(model, material.test), took, steps)


def count_pixels(maps: Sequence[np.ndarray], samples: Sequence[Sample], classes: int) -> Confusion:
    """Count the pixels of all samples together."""
    confusion = Confusion(classes)
    for predicted, sample in zip(maps, samples, strict=True):
        confusion.add(predicted, sample.load()[1])
    return confusion


def _cost(classes: int) -> Any:
    """Dice plus (binary) cross-entropy, as the libraries have them."""
    import segmentation_models_pytorch as smp

    mode = "binary" if classes == 1 else "multiclass"
    dice = smp.losses.DiceLoss(mode, ignore_index=IGNORE)

    def cost(logits: Tensor, masks: Tensor) -> Tensor:
        if classes > 1:
            entropy = nn.functional.cross_entropy(logits, masks, ignore_index=IGNORE)
        else:
            known, truth = masks != IGNORE, (masks == 1).float()
            entropy = nn.functional.binary_cross_entropy_with_logits(
                logits[:, 0][known], truth[known]
            )
        return dice(logits, masks[:, None] if classes == 1 else masks) + entropy

    return cost


def _batches(
    samples: Sequence[Sample], side: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random crops of random images, flipped at random, without end."""
    pairs = [_padded(*sample.load(), side) for sample in samples]
    while True:
        crops = []
        for index in rng.integers(len(pairs), size=count):
            image, mask = pairs[index]
            y, x = (rng.integers(length - side + 1) for length in mask.shape)
            flips = tuple(slice(None, None, int(step)) for step in rng.choice([1, -1], 2))
            crops.append([p[y : y + side, x : x + side][flips] for p in (image, mask)])
        images, masks = (np.stack(planes) for planes in zip(*crops, strict=True))
        yield _tensor(images), torch.from_numpy(masks.astype(np.int64))


def _padded(image: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Reflect images that are smaller than a crop."""
    rows, columns = (max(side - length, 0) for length in mask.shape)
    edges = ((0, rows), (0, columns))
    return np.pad(image, (*edges, (0, 0)), "reflect"), np.pad(mask, edges, "reflect")


def _predict(model: nn.Module, samples: Sequence[Sample]) -> list[np.ndarray]:
    """Label maps of whole images."""
    model.eval()
    maps = []
    for sample in samples:
        image = sample.load()[0]
        height, width = image.shape[:2]
        edges = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
        with torch.inference_mode():
            logits = model(_tensor(np.pad(image, edges, "reflect")[None]))[0, :, :height, :width]
        found = logits[0] > 0 if len(logits) == 1 else logits.argmax(dim=0)
        maps.append(found.numpy().astype(np.uint8))
    return maps


def _tensor(images_NHWC: np.ndarray) -> Tensor:
    values = (images_NHWC.astype(np.float32) / 255 - MEAN) / SD
    return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()
