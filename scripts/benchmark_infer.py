"""Whole-image prediction, against its bare forward passes and against MONAI's sliding windows.

What `benchmark.py infer` runs. The network is segmentation-models-pytorch's Unet with a resnet18,
as its makers have it, trained for a minute on membranes of ../shared/data, so that its
probabilities are those of a segmentation; without the data, on drawn discs. Times are the least
processor time of turns that alternate, of one thread: several would count their waiting. Ours and
the bare passes have the allocator's settings that `brushloop up` gives its processes, MONAI those
of any Python process. Ratios of times are other / ours against MONAI, else ours / other.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import cv2
import numpy as np
from benchmark import DATA, Row, drawn_discs, memory, row, speed
from benchmark_infer_sides import Material, predictor_of

from ml_backend.host import ALLOCATOR
from ml_backend.recipe import Network, Prediction, parse_recipe

NETWORK = Network(fold=1, depth=5)  # as smp builds it
PREDICTION = Prediction(window=256, overlap=64, batch_size=8)
STEPS = 80
TURNS = 3
VNC = DATA / "vnc_mitochondria"
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
SMALL = Network(depth=3, decoder_width=4)  # memory beside the network is what is measured


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure an image of 2048² and one of 16,000²; a sixteenth of their sides if `quick`."""
    from ml_backend.learning.device import resolve_device
    from ml_backend.learning.precision import measure

    small = 16 if quick else 1
    precision = measure(NETWORK, resolve_device("cpu"), clock=time.perf_counter).prediction
    material = Material(
        learned(4 if quick else STEPS), unseen(2048 // small), precision, NETWORK, PREDICTION
    )
    yield from times(material)
    yield from sides(material)
    yield from seams(material)
    yield from growth(4000 // small, 16_000 // small)


def learned(steps: int) -> dict[str, Any]:
    """Train on the first sections, or on discs."""
    from ml_backend.learning.data import Sample
    from ml_backend.learning.training import train

    recipe = parse_recipe({
        "network": NETWORK.model_dump(),
        "training": {"steps": steps, "epochs": 1, "batch_size": 4, "patch": 128, "average": 0},
    })  # fmt: skip
    pairs = [section(number) for number in range(6)]
    samples = [Sample(str(number), lambda pair=pair: pair) for number, pair in enumerate(pairs)]
    return train(samples, [], recipe=recipe, classes=1).state


def section(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Give an image (H, W, 3) uint8 and its membranes (H, W) uint8, or discs."""
    image = cv2.imread(str(VNC / f"images/{number:02}.tif"))
    mask = cv2.imread(str(VNC / f"masks/membranes/{number:02}.png"), cv2.IMREAD_GRAYSCALE)
    if image is None or mask is None:
        discs = np.roll(drawn_discs(512), 40 * number, axis=(0, 1))
        noise = np.random.default_rng(number).integers(0, 60, (512, 512, 3))
        return (60 + 100 * discs[..., None] + noise).astype(np.uint8), discs.astype(np.uint8)
    return image, (mask > 127).astype(np.uint8)


def unseen(side: int) -> np.ndarray:
    """Mirror a section that was not learned from until it is large enough: no edge of its own."""
    image = section(11)[0]
    padding = [(0, max(0, side - length)) for length in image.shape[:2]]
    return np.ascontiguousarray(np.pad(image, [*padding, (0, 0)], "symmetric")[:side, :side])


def times(material: Material) -> Iterator[Row]:
    """What normalising, cutting and blending cost, and what people use otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        material.save(Path(folder))
        best = alternate(Path(folder), {"ours": ALLOCATOR, "bare": ALLOCATOR, "monai": {}}, TURNS)
    side, mode = len(material.image_HWC), predictor_of(material, material.precision).mode
    ratio = best["ours"] / best["bare"]
    case = f"an image of {side}² by the bare forward passes, {mode}"
    yield row(case, best["ours"], best["bare"], ratio, "ms", 1.05, holds=ratio <= 1.05)
    target = 2.3 if material.precision == "bfloat16" else 1.0
    case = f"an image of {side}², {mode}, against MONAI in float32"
    yield speed(case, best["ours"], best["monai"], target=target)


def alternate(folder: Path, kinds: Mapping[str, Mapping[str, str]], turns: int) -> dict[str, float]:
    """The least processor time of each kind of call, ms; turn by turn: noise hits all alike.

    Each in a process of its own, with its additions to the environment.
    """
    best = dict.fromkeys(kinds, float("inf"))
    with ExitStack() as running:
        children = {
            kind: running.enter_context(
                subprocess.Popen(
                    [sys.executable, Path(__file__).with_name("benchmark_infer_sides.py"),
                     kind, folder],
                    env={**os.environ, "OMP_NUM_THREADS": "1", **additions},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )
            for kind, additions in kinds.items()
        }  # fmt: skip
        for _ in range(turns):
            for kind, child in children.items():
                print(file=child.stdin, flush=True)
                answer = child.stdout.readline() if child.stdout else ""
                if not answer:
                    raise SystemExit(f"the measurement of {kind} ended early")
                best[kind] = min(best[kind], float(answer))
    return best


def sides(material: Material) -> Iterator[Row]:
    """Pixels that a coarser format, or another layout, puts on the other side."""
    image = material.image_HWC[:1024, :1024]
    exact = predictor_of(material, "float32").probs(image).argmax(axis=0)
    for precision in dict.fromkeys([material.precision, "bfloat16"]):
        other = predictor_of(material, precision).probs(image).argmax(axis=0)
        share = 100 * float((other != exact).mean())
        case = f"pixels that change side, {precision} against float32, by the limit"
        yield row(case, share, 0.1, share / 0.1, "%", 1, holds=share <= 0.1)


def seams(material: Material) -> Iterator[Row]:
    """Jumps between neighbouring pixels across the borders of windows, and everywhere else."""
    from ml_backend.masks.tiles import cut

    image = material.image_HWC
    foreground = predictor_of(material, material.precision).probs(image)[1]
    windows = cut(*image.shape[:2], PREDICTION.window, PREDICTION.overlap)
    at, elsewhere = [], []
    for axis, starts in ((0, {w.y for w in windows}), (1, {w.x for w in windows})):
        borders = starts | {start + PREDICTION.window for start in starts}
        inside = sorted(border - 1 for border in borders if 0 < border < image.shape[axis])
        jumps = np.moveaxis(np.abs(np.diff(foreground, axis=axis)), axis, 0)
        at.append(jumps[inside])
        elsewhere.append(np.delete(jumps, inside, axis=0))
    for what, of in (("largest", np.max), ("mean", np.mean)):
        ours, other = (
            float(of(np.concatenate([part.ravel() for part in parts]))) for parts in (at, elsewhere)
        )
        target = 1.0 if what == "largest" else 1.1
        case = f"{what} jump at the borders of windows, by that elsewhere"
        yield row(case, ours, other, ours / other, "", target, holds=ours / other <= target)


def growth(small: int, large: int) -> Iterator[Row]:
    """Memory of streamed images, the pages of the image itself not counted."""
    less, more = peak_of_stream(small), peak_of_stream(large)
    case = f"memory of the process, an image of {large}² by one of {small}²"
    yield memory(case, more["peak"], less["peak"], target=1.25)
    bound = 3 * 2 * PREDICTION.window * large * 4 + (8 << 20)
    case = f"memory that an image of {large}² adds, by 3 rows of windows"
    yield memory(case, max(more["added"], 1), bound, target=1)


def peak_of_stream(side: int) -> dict[str, int]:
    """Predict a memory map of side² pixels in a process of its own; bytes.

    What is freed goes back to the system at once there. Else glibc keeps up to some 60 MiB for
    later, now more and now less of it, and that would be measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.raw"
        tile = np.random.default_rng(0).integers(0, 256, (min(side, 250), side, 3), np.uint8)
        with path.open("wb") as file:
            for start in range(0, side, len(tile)):
                file.write(tile[: side - start].tobytes())
        command = [sys.executable, __file__, str(path), str(side)]
        done = subprocess.run(
            command, env={**os.environ, **AT_ONCE}, check=True, capture_output=True, text=True
        )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def stream(path: str, side: int) -> dict[str, int]:
    """Take all rows of an image's prediction, and drop them; peak and what the image added."""
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.networks import build_network

    image = np.memmap(path, np.uint8, "r", shape=(side, side, 3))
    state = build_network(SMALL, 1, seed=0).state_dict()
    predictor = predictor_from_state(state, SMALL, 1, PREDICTION)
    warm = np.ascontiguousarray(image[:1024, :1024])
    before = watched(partial(consume, predictor, warm))
    peak = watched(partial(consume, predictor, image))
    return {"peak": peak, "added": peak - before}


def consume(predictor: Any, image: np.ndarray) -> None:
    """Predict all of an image."""
    rows_seen = sum(band.probs_CHW.shape[1] for band in predictor.bands(image))
    if rows_seen != len(image):
        raise SystemExit(f"{rows_seen} rows of an image of {len(image)}")


def watched(call: Callable[[], None]) -> int:
    """The most memory of its own that the process has during a call, in bytes."""
    peak, done = [0], Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], own_memory())

    thread = Thread(target=watch)
    thread.start()
    try:
        call()
    finally:
        done.set()
        thread.join()
    return max(peak[0], own_memory())


def own_memory() -> int:
    """Bytes of memory that belong to no file."""
    lines: Sequence[str] = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


if __name__ == "__main__":
    print(json.dumps(stream(sys.argv[1], int(sys.argv[2]))))
