"""How fast and how frugal Brushloop is, against what people use otherwise.

    python scripts/benchmark.py rle            the codec; a table
    python scripts/benchmark.py rle --json     the same as a list of rows
    python scripts/benchmark.py export --quick  COCO and PNG of 4 tasks instead of 200
    python scripts/benchmark.py sync           pulls of 10,000, 5,000 and 100 tasks (minutes)
    python scripts/benchmark.py select         scoring and choosing a batch
    python scripts/benchmark.py infer          predicting whole images (minutes)
    python scripts/benchmark.py learn          what a dozen masks teach (an hour; --quick: minutes)
    python scripts/benchmark.py transfer       from a clean source to noisy images (minutes)
    python scripts/benchmark.py instances      touching nuclei, cut apart or not (minutes)
    python scripts/benchmark.py byol           few labels, with and without BYOL (an hour)
    python scripts/benchmark.py images         matching, adding and decoding images (minutes)
    python scripts/benchmark.py glands         the recipe for stained tissue (minutes)

A row is {case, ours, other, ratio, unit, target, holds}. Real masks are read from
../shared/data beside the repository; without it, shapes drawn here stand in for them.
"""

import argparse
import json
import operator
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
from benchmark_options import MEASURES, OPTIONS
from rich.console import Console
from rich.table import Table

DATA = Path(__file__).resolve().parents[1].parent / "shared/data"
Row = dict[str, Any]


def benchmark_rle() -> Iterator[Row]:
    """Measure the brush codec against label-studio-sdk's, on the same masks in the same process."""
    from label_studio_sdk.converter import brush

    from ml_backend.masks import rle

    rle.warm_up()
    for name, mask in masks().items():
        alpha = mask.astype(np.uint8) * 255
        height, width = mask.shape
        stream = brush.mask2rle(alpha)

        def decode(stream: list[int] = stream, shape: tuple[int, int] = mask.shape) -> Any:
            return brush.decode_rle(stream).reshape(*shape, 4)[..., 3]

        ours, other = in_turns(
            lambda mask=mask: rle.encode_brush(mask),
            lambda alpha=alpha: brush.mask2rle(alpha),
            what=f"{name}: the streams",
            same=operator.eq,
        )
        yield speed(f"encode {name}", ours, other, target=20)
        ours, other = in_turns(
            lambda s=stream, h=height, w=width: rle.decode_brush(s, h, w),
            decode,
            what=f"{name}: the masks",
            same=np.array_equal,
        )
        yield speed(f"decode {name}", ours, other, target=300)

        array = rle.encode_array(mask)
        peak = max(
            peak_of(lambda mask=mask: rle.encode_array(mask)),
            peak_of(lambda a=array, h=height, w=width: rle.decode_brush(a, h, w)),
        )
        ours, other = in_turns(
            lambda a=array: orjson.dumps(a, option=orjson.OPT_SERIALIZE_NUMPY),
            lambda s=stream: json.dumps(s),
            what=f"{name}: the lists",
            same=lambda text, expected: json.loads(text) == json.loads(expected),
        )
        yield speed(f"write JSON {name}", ours, other, target=5)
        yield memory(f"memory per mask {name}", peak, mask.nbytes, target=3)
    yield written_result()


def written_result(side: int = 2048) -> Row:
    """Row of writing a whole brush result as JSON: ours as an array by orjson, other as a list."""
    from ml_backend.masks.labels import make_label_config, parse_label_config
    from ml_backend.masks.regions import encode_results

    config = parse_label_config(make_label_config(["object"]))
    mask = tiled(next(iter(masks().values())), side).astype(np.uint8)
    array, plain = (encode_results(mask, config, as_arrays=kind) for kind in (True, False))
    ours, other = in_turns(
        lambda: orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY),
        lambda: json.dumps(plain),
        what="brush results as JSON",
        same=lambda text, expected: json.loads(text) == json.loads(expected),
    )
    return speed(f"write JSON, a brush result of {side}²", ours, other, target=5)


def masks() -> dict[str, np.ndarray]:
    """Boolean masks by name: smooth ones, thready ones, a large one, and noise as the worst."""
    found = {
        "mitochondria": first_mask("vnc_mitochondria/masks/mitochondria"),
        "membranes": first_mask("vnc_mitochondria/masks/membranes"),
        "nuclei": first_mask("dsb2018_nuclei/masks"),
    }
    cases = {name: mask for name, mask in found.items() if mask is not None}
    if not cases:
        cases["drawn discs"] = drawn_discs(1024)
    tile = next(iter(cases.values()))
    cases["mosaic 4096²"] = tiled(tile, 4096)
    cases["noise 1024²"] = np.random.default_rng(0).random((1024, 1024)) < 0.5
    return cases


def tiled(tile: np.ndarray, side: int) -> np.ndarray:
    """Repeat a mask until it fills a square."""
    repeats = [-(-side // length) for length in tile.shape]
    return np.ascontiguousarray(np.tile(tile, repeats)[:side, :side])


def first_mask(folder: str) -> np.ndarray | None:
    """Return the largest mask of a folder in the data beside the repository."""
    best: np.ndarray | None = None
    for path in sorted((DATA / folder).glob("*.png"))[:12]:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask = (image if image.ndim == 2 else image[..., 0]) > (
            127 if image.dtype == np.uint8 else 0
        )
        if best is None or mask.size > best.size:
            best = mask
    return best


def drawn_discs(side: int) -> np.ndarray:
    """Draw discs at random places."""
    rng = np.random.default_rng(0)
    image = np.zeros((side, side), np.uint8)
    for x, y, radius in rng.integers(0, [side, side, side // 16], (30, 3)):
        cv2.circle(image, (int(x), int(y)), int(radius), 1, -1)
    return image.astype(bool)


def in_turns(
    ours: Callable[[], Any],
    other: Callable[[], Any],
    *,
    what: str,
    same: Callable[[Any, Any], bool],
) -> tuple[float, float]:
    """Return the best times of two sides in ms; stop if their results differ.

    They take turns, five or more, each of 40 ms a side or of one call: a machine that is lent out
    twice changes its speed within seconds, and both sides are to meet the same. Processor time,
    because the other tenant interrupts long calls and spares short ones; its clock is coarse, so
    short calls are timed 5 ms at a time.
    """
    sides = (ours, other)
    at_once = [max(1, round(5 / max(timed(call, 1)[1], 0.01))) for call in sides]
    best = [float("inf"), float("inf")]
    for _ in range(5):
        results = []
        for side, call in enumerate(sides):
            spent = 0.0
            while spent < 40:
                result, duration = timed(call, at_once[side])
                best[side] = min(best[side], duration)
                spent += max(duration, 0.001) * at_once[side]
            results.append(result)
        agree(what, same(*results))
    return best[0], best[1]


def best_of(call: Callable[[], Any]) -> tuple[Any, float]:
    """Call at least thrice and for 0.1 s; return the last result and the best time in ms."""
    durations: list[float] = []
    while len(durations) < 3 or sum(durations) < 100:
        result, duration = timed(call, 1)
        durations.append(duration)
    return result, min(durations)


def timed(call: Callable[[], Any], times: int) -> tuple[Any, float]:
    """Call some times; return the last result and the mean duration, ms of processor time."""
    result = None
    start = time.process_time()
    for _ in range(times):
        result = None  # given back first: otherwise large results take turns in two places
        result = call()
    return result, 1000 * (time.process_time() - start) / times


def peak_of(call: Callable[[], Any]) -> int:
    """Return the most bytes that a call holds at once, its result included."""
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def agree(what: str, is_so: bool) -> None:
    """Stop where two implementations differ: their speed cannot be compared."""
    if not is_so:
        raise SystemExit(f"{what} of the two sides differ: their speed cannot be compared")


def speed(case: str, ours: float, other: float, *, target: float) -> Row:
    """Row of two durations; the ratio is how many times faster ours is."""
    return row(case, ours, other, other / ours, "ms", target, holds=other / ours >= target)


def memory(case: str, ours: float, other: float, *, target: float) -> Row:
    """Row of two sizes; the ratio is how many times the other's size ours takes."""
    mib = 1 << 20
    holds = ours / other <= target
    return row(case, ours / mib, other / mib, ours / other, "MiB", target, holds=holds)


def row(
    case: str, ours: float, other: float, ratio: float, unit: str, target: float, *, holds: bool
) -> Row:
    """One measured case."""
    numbers = {"ours": round(ours, 3), "other": round(other, 3), "ratio": round(ratio, 2)}
    return {"case": case, **numbers, "unit": unit, "target": target, "holds": holds}


def print_table(rows: list[Row]) -> None:
    """Print rows for people: the fields that all have, means with their standard deviation."""
    columns = ("case", "ours", "other", "ratio", "unit", "target", "holds")
    table = Table(*columns)
    for measured in rows:
        table.add_row(*[shown(measured[name], measured.get(f"{name}_sd")) for name in columns])
    Console().print(table)


def shown(value: object, deviation: float | None = None) -> str:
    """Write a value into a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if deviation is None else f"{value} ± {deviation}"


def main() -> None:
    """Parse the command line, run one benchmark, print its rows."""
    parser = argparse.ArgumentParser(description="Measure Brushloop against what people use.")
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, what in MEASURES.items():
        command = commands.add_parser(name, help=what, description=f"Measure {what}.")
        command.add_argument("--json", action="store_true", help="print the rows as JSON")
        for add in OPTIONS.get(name, ()):
            add(command)
    options = vars(parser.parse_args())
    as_json, name = options.pop("json"), options.pop("benchmark")
    measure = benchmark_rle if name == "rle" else import_module(f"benchmark_{name}").rows
    rows = list(measure(**options))
    if as_json:
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
