"""One side of `benchmark.py export`, in a process that imports nothing of the other's.

    python scripts/benchmark_worker.py brushloop|sdk TASKS TARGET

Converts a folder of Label Studio's JSON files (its labeling config beside it, TASKS.xml) into
COCO and PNG below TARGET, then prints its duration, imports not counted, and its peak memory.
"""

import json
import sys
import time
from pathlib import Path


def convert_with_brushloop(tasks: Path, target: Path, xml: str) -> float:
    """Write COCO and PNG; the duration in seconds."""
    import orjson

    from ml_backend.export import ExportItem, write_items
    from ml_backend.masks.labels import parse_label_config
    from ml_backend.masks.regions import decode_results

    start = time.perf_counter()
    config = parse_label_config(xml)
    # One file in memory at a time, each task's latest annotation as a label map
    items = (
        ExportItem(
            task["data"]["image"].rsplit("/", 1)[-1],
            decode_results(
                result, config, result[0]["original_height"], result[0]["original_width"]
            ).label_map,
            "annotation",
        )
        for path in sorted(tasks.glob("*.json"))
        for task in orjson.loads(path.read_bytes())
        for result in [max(task["annotations"], key=lambda one: one["created_at"])["result"]]
    )
    write_items(("coco", "png"), items, target, config)
    return time.perf_counter() - start


def convert_with_sdk(tasks: Path, target: Path, xml: str) -> float:
    """Write COCO and PNG by the converter that Label Studio itself exports with."""
    from label_studio_sdk.converter import Converter

    start = time.perf_counter()
    converter = Converter(xml, project_dir=None, download_resources=False)
    for name in ("BRUSH_TO_COCO", "BRUSH_TO_PNG"):
        folder = target / name
        folder.mkdir()
        converter.convert(str(tasks), str(folder), name, is_dir=True)
    return time.perf_counter() - start


SIDES = {"brushloop": convert_with_brushloop, "sdk": convert_with_sdk}


def peak_memory() -> int:
    """Return this process's peak of resident memory, bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    # Not ru_maxrss: on Linux that begins with the memory of the process that started this one
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Convert, then print what it took."""
    side, tasks, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    xml = tasks.with_suffix(".xml").read_text(encoding="utf-8")
    took = 1000 * SIDES[side](tasks, target, xml)
    print(json.dumps({"ms": took, "peak": peak_memory()}))


if __name__ == "__main__":
    main()
