"""Scoring and choosing, against the bare work and against the definitions written out naively.

What `benchmark.py select` runs. Ratios of times are other / ours where the other way is the slower
one, else ours / other: a target above 1 in a row of a strategy against np.argpartition is what it
may cost at most. Pools are drawn at random; the first batch's row reads ../shared/data.
"""

import json
import logging
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import DATA, Row, agree, best_of, memory, peak_of, row, speed

from ml_backend.host import ALLOCATOR
from ml_backend.recipe import Network, Prediction, Scoring, Selection
from ml_backend.selection.strategies import STRATEGIES, Pool

BATCH = 100
RANKED = {
    "top": 3,
    "power": 10,
    "per_object": 15,
    "stochastic_batch": 3,
    "foreground_random": 15,
    "class_power": 40,
}
SPREAD = ("kmeans", "core_set", "suggestive", "diverse_batch")
NUCLEI = {  # kinds of the images of dsb2018_nuclei, told apart by eye; the rest is fluorescence
    "brightfield": "1 13 37 48 54",
    "purple tissue": "0 2 7 21 22 23 31 32 33 42 44 50 59 64 66 67 68 74 75 76 81",
    "stained on white": "6 24 27 43 56 69 72 89",
    "pink tissue": "53",
}
SEEDS = 20


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure pools of 10⁶ scores and 10⁵ embeddings, or a hundredth and a tenth if `quick`."""
    yield from ranked(10**4 if quick else 10**6)
    yield from naive(10**3 if quick else 10**4)
    yield from growth(10**4 if quick else 10**5)
    yield from scoring_apart(8 if quick else 32, 64 if quick else 256)
    yield from flat(100 if quick else 1000)
    yield from first_batch()


def choose(name: str, pool: Pool, **settings: Any) -> Callable[[], Any]:
    """Make a call that chooses a batch."""
    return lambda: STRATEGIES[name](
        pool, BATCH, np.random.default_rng(0), Selection(strategy=name, **settings)
    )


def ranked(count: int) -> Iterator[Row]:
    """Strategies that go by scores, against finding the highest ones and nothing else."""
    rng = np.random.default_rng(0)
    objects = rng.integers(0, 30, count).astype(np.float64)
    pool = Pool(rng.random(count), rng.random(count), rng.random((count, 3)), objects_N=objects)
    _, other = best_of(lambda: np.argpartition(pool.scores_N, count - BATCH))
    for name, target in RANKED.items():
        _, ours = best_of(choose(name, pool))
        yield cost(f"{name}, {BATCH} of {count:,} by argpartition", ours, other, "ms", target)
    _, ours = best_of(choose("stochastic_batch", pool, variant="partition"))
    _, other = best_of(lambda: rng.permutation(count))
    case = f"stochastic_batch (partition), {BATCH} of {count:,} by a permutation"
    yield cost(case, ours, other, "ms", 2)


def naive(count: int) -> Iterator[Row]:
    """Strategies that go by embeddings, against their definitions; both must choose the same."""
    from scipy.cluster.vq import kmeans2

    pool = clustered(count)
    points = np.asarray(pool.embeddings_ND, np.float32)
    asked = points[:BATCH] + 0.01
    known = Pool(pool.scores_N, embeddings_ND=points, labelled_MD=asked)
    chosen, ours = best_of(choose("core_set", known))
    expected, other = best_of(lambda: farthest_first(points, asked))
    agree("the core sets", chosen.tolist() == expected)
    yield speed(f"core_set, {BATCH} of {count:,}", ours, other, target=10)

    chosen, ours = best_of(choose("suggestive", pool))
    expected, other = best_of(lambda: most_like(points, pool.scores_N))
    agree("the suggestive batches", chosen.tolist() == expected)
    yield speed(f"suggestive, {BATCH} of {count:,}", ours, other, target=1)

    _, ours = best_of(choose("kmeans", pool))
    _, other = best_of(lambda: kmeans2(points, BATCH, iter=25, minit="++", rng=0))
    yield speed(f"kmeans, {BATCH} of {count:,}, against SciPy's", ours, other, target=1)


def growth(count: int) -> Iterator[Row]:
    """How time grows with the pool, and memory beside the embeddings themselves."""
    small, large = clustered(count // 10), clustered(count)
    for name in SPREAD:
        _, less = best_of(choose(name, small))
        _, more = best_of(choose(name, large))
        yield cost(f"{name}, {count:,} by {count // 10:,} embeddings", more, less, "ms", 20)
        size = len(large) * large.embeddings_ND.shape[1] * 4
        peak = peak_of(choose(name, large))
        yield memory(f"{name}, memory by float32 embeddings", peak, size, target=2)


def scoring_apart(images: int, side: int) -> Iterator[Row]:
    """Give the rows of `scoring` from a process with the allocator's settings of the product's."""
    code = f"import benchmark_select; benchmark_select.tell_scoring({images}, {side})"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ALLOCATOR},
        check=True, capture_output=True, text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    yield from json.loads(told.stdout)


def tell_scoring(images: int, side: int) -> None:
    """Print the rows of `scoring` as JSON."""
    print(json.dumps(list(scoring(images, side))))


def scoring(images: int, side: int) -> Iterator[Row]:
    """Passes and scores of a pool, against the bare forward passes of the same network.

    Processor time of one thread: several would count their waiting.
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    from ml_backend.learning.device import autocast
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.networks import build_network, normalise, to_probs
    from ml_backend.learning.passes import passes_many
    from ml_backend.selection.uncertainty import SCORES, Passes, score_image

    network = Network(dropout=0.2)
    state = build_network(network, 1, seed=0).state_dict()
    predictor = predictor_from_state(state, network, 1, Prediction(window=side, overlap=side // 4))
    draw = np.random.default_rng(0)
    pool = [draw.integers(0, 256, (side, side, 3), np.uint8) for _ in range(images)]
    asked = [(image, (number,)) for number, image in enumerate(pool)]

    def look(scoring: Scoring) -> Any:
        return [seen.features_D for seen in passes_many(predictor, asked, scoring)]

    def score(scoring: Scoring) -> Any:
        found = passes_many(predictor, asked, scoring)
        return [score_image(Passes(seen.probs_TCHW)) for seen in found]

    def bald(scoring: Scoring) -> Any:
        found = passes_many(predictor, asked, scoring)
        return [SCORES["bald"](Passes(seen.probs_TCHW)).mean() for seen in found]

    model = build_network(network, 1, seed=0).eval()
    model.segmentation_head[0].train()

    def ten_full_passes() -> None:
        with torch.inference_mode(), autocast(predictor.device):
            for image in pool:
                to_probs(model(normalise(image[None].repeat(10, axis=0))))

    views, samples = Scoring(passes="tta", views=4), Scoring(passes="mc_dropout", samples=10)
    bare, viewed, sampled, disagreed, scored = in_turns(
        lambda: look(Scoring(passes="single")),
        lambda: score(views),
        lambda: look(samples),
        lambda: bald(samples),
        lambda: score(samples),
    )
    yield cost("scores of 4 views by 4 bare passes", viewed, 4 * bare, "ms", 1.1)
    yield cost("10 passes of dropout by a bare pass", sampled, bare, "ms", 1.5)
    yield cost("BALD of 10 passes of dropout by a bare pass", disagreed, bare, "ms", 1.5)
    yield cost("every score of 10 passes of dropout by a bare pass", scored, bare, "ms", 1.65)
    _, full = best_of(ten_full_passes)
    yield speed("10 passes of dropout, against 10 full ones", sampled, full, target=5)
    if find_spec("baal"):  # of the development install
        _, other = best_of(with_baal(build_network(network, 1, seed=0), pool))
        yield speed("10 passes of dropout, against BaaL's", sampled, other, target=8)


def flat(count: int) -> Iterator[Row]:
    """The highest memory of a process after scoring so many tiles, and ten times as many."""
    code = f"import benchmark_select; benchmark_select.climb({count})"
    told = subprocess.run(
        [sys.executable, "-c", code],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    less, more = (int(line) << 10 for line in told.stdout.split())
    yield memory(f"scoring {10 * count:,} tiles, memory by {count:,}", more, less, target=1.1)


def climb(count: int) -> None:
    """Score tiles and print the process's highest memory, KiB, when a tenth is done and all."""
    from ml_backend.learning.inference import predictor_from_state
    from ml_backend.learning.networks import build_network
    from ml_backend.learning.passes import passes_many
    from ml_backend.selection.uncertainty import Passes, score_image

    network, draw = Network(dropout=0.2), np.random.default_rng(0)
    state = build_network(network, 1, seed=0).state_dict()
    predictor = predictor_from_state(state, network, 1, Prediction(window=64, overlap=16))
    asked = ((draw.integers(0, 256, (64, 64, 3), np.uint8), (n,)) for n in range(10 * count))
    found = passes_many(predictor, asked, Scoring(passes="mc_dropout"))
    for number, seen in enumerate(found, 1):
        score_image(Passes(seen.probs_TCHW))
        if number in {count, 10 * count}:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def with_baal(model: Any, pool: list[np.ndarray]) -> Callable[[], Any]:
    """Make a call of BaaL's `predict_on_dataset` with ten passes, in this process."""
    with warnings.catch_warnings():  # its set-up of structlog is deprecated there
        warnings.simplefilter("ignore", DeprecationWarning)
        import structlog
        from baal.bayesian.dropout import patch_module
        from baal.modelwrapper import ModelWrapper, TrainingArgs

    from ml_backend.learning.networks import normalise

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    data = [(normalise(image[None])[0], 0) for image in pool]
    wrapper = ModelWrapper(
        patch_module(model), TrainingArgs(batch_size=8, workers=0, use_cuda=False)
    )
    return lambda: wrapper.predict_on_dataset(data, iterations=10, verbose=False)


def first_batch() -> Iterator[Row]:
    """Count the kinds of nuclei among the first 15 images, against 15 drawn at random."""
    from ml_backend.selection.appearance import appearance, comparable
    from ml_backend.store.images import decode_image

    folder = DATA / "dsb2018_nuclei/images"
    if not folder.is_dir():
        return
    files = sorted(folder.iterdir())
    kinds = np.array(["fluorescence"] * len(files), dtype=object)
    for kind, places in NUCLEI.items():
        kinds[np.array(places.split(), int)] = kind
    looks = [appearance(decode_image(path.read_bytes(), path.name)) for path in files]
    pool = Pool(np.zeros(len(files)), embeddings_ND=comparable(np.stack(looks)))
    counts = [
        [
            len(set(kinds[STRATEGIES[name](pool, 15, np.random.default_rng(seed), Selection())]))
            for seed in range(SEEDS)
        ]
        for name in ("kmeans", "random")
    ]
    ours, other = (float(np.mean(found)) for found in counts)
    case = f"kinds of nuclei (of {len(set(kinds))}) in a first batch of 15, against random"
    yield row(case, ours, other, ours / other, "kinds", 1.2, holds=ours / other >= 1.2)


def clustered(count: int) -> Pool:
    """Unit vectors in twenty clusters, half precision, as the catalog keeps them."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((20, 64))
    points = rng.standard_normal((count, 64)) + centres[rng.integers(0, 20, count)]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Pool(rng.random(count), embeddings_ND=points.astype(np.float16))


def farthest_first(points: np.ndarray, asked: np.ndarray) -> list[int]:
    """Work out all distances to all that is labelled or chosen, before every choice."""
    from scipy.spatial.distance import cdist

    chosen: list[int] = []
    for _ in range(BATCH):
        known = np.concatenate([asked, points[chosen]])
        chosen.append(int(cdist(points, known).min(axis=1).argmax()))
    return chosen


def most_like(points: np.ndarray, scores: np.ndarray) -> list[int]:
    """Work out the gain of every candidate before every choice, from a table of all cosines."""
    rows = np.argsort(-scores)[: 2 * BATCH]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    likeness_NK = unit @ unit[rows].T
    best_N1 = np.full((len(points), 1), -1, np.float32)
    chosen: list[int] = []
    for _ in range(BATCH):
        gains_K = np.maximum(likeness_NK - best_N1, 0).sum(axis=0, dtype=np.float64)
        gains_K[chosen] = -1
        chosen.append(int(gains_K.argmax()))
        best_N1 = np.maximum(best_N1, likeness_NK[:, chosen[-1:]])
    return [int(rows[place]) for place in chosen]


def in_turns(*calls: Callable[[], Any]) -> list[float]:
    """Least processor time of each call, ms; they take turns: a busy machine hits them all."""
    durations: list[list[float]] = [[] for _ in calls]
    for _ in range(6):  # the first is for warming up
        for call, known in zip(calls, durations, strict=True):
            start = time.process_time()
            call()
            known.append(1000 * (time.process_time() - start))
    return [min(known[1:]) for known in durations]


def cost(case: str, ours: float, other: float, unit: str, target: float) -> Row:
    """Row of what ours costs, in units of the other."""
    return row(case, ours, other, ours / other, unit, target, holds=ours / other <= target)
