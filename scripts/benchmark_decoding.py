"""How much memory it takes to decode an image, by its type: rows of `benchmark.py images`.

Each image is inspected and decoded from its file in a process of its own, whose largest size
counts. "other" is the image in 8-bit RGB plus a strip or tile of its own numbers.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from benchmark import Row, memory
from PIL import Image

MOST = 3.0  # times the image in 8-bit RGB, and a strip
_TILE = 256
_CHILD = """
import re, resource, sys
from pathlib import Path
from ml_backend.store.frames import inspect_image
from ml_backend.store.images import decode_image

def peak(path):
    path = Path(path)
    frame = inspect_image(path, path.name).frames[0].frame
    for one in (frame, None):
        decode_image(path, path.name, one)
    try:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\\s+([0-9]+)", status)[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak(sys.argv[1])
print(peak(sys.argv[2]) - before)
"""


def rows(*, quick: bool = False, side: int = 4096) -> Iterator[Row]:
    """Decode an image of each type; few and smaller ones if `quick`."""
    side = 1024 if quick else side
    with tempfile.TemporaryDirectory() as folder:
        for case, write, strip in list(cases(side))[:: 20 if quick else 1]:
            small, large = Path(folder) / "small", Path(folder) / "large"
            write(small, 512)
            write(large, side)
            words = [sys.executable, "-c", _CHILD, str(small), str(large)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            yield memory(f"decode {case}", int(done.stdout) - strip, side * side * 3, target=MOST)
            large.unlink()


Write = Callable[[Path, int], None]


def cases(side: int) -> Iterator[tuple[str, Write, int]]:
    """Give (what it is, how it is written, bytes of a strip or row of tiles) of each type."""
    layouts: dict[str, tuple[dict[str, object], int]] = {
        "": ({}, 0),
        ", deflate in strips": ({"compression": "deflate", "rowsperstrip": 64}, 64),
        ", deflate in tiles": ({"compression": "deflate", "tile": (_TILE, _TILE)}, _TILE),
    }
    for dtype in ("uint8", "uint16", "int16", "float32", "float64"):
        for samples in (1, 3):
            size = np.dtype(dtype).itemsize * samples
            for layout, (options, rows_at_once) in layouts.items():
                case = f"{dtype}{' RGB' if samples == 3 else ''}{layout}"
                yield case, _tiff(dtype, samples, **options), rows_at_once * side * size
    yield "uint16, 2 channels", _tiff("uint16", 2, planarconfig="contig"), 0
    yield "16-bit RGBA PNG", _deep_png, 0
    yield "RGBA PNG", lambda path, n: Image.fromarray(_numbers("uint8", n, 4)).save(path, "PNG"), 0
    yield "JPEG", lambda path, n: Image.fromarray(_numbers("uint8", n, 3)).save(path, "JPEG"), 0


def _numbers(dtype: str, side: int, samples: int) -> np.ndarray:
    line = np.random.default_rng(0).integers(0, 251, (1, side, samples))
    values = np.empty((side, side, samples), dtype)
    for y in range(side):
        values[y] = np.roll(line, y, axis=1)
    return values


def _tiff(dtype: str, samples: int, **options: object) -> Write:
    def write(path: Path, side: int) -> None:
        values = _numbers(dtype, side, samples)
        photometric = "rgb" if samples == 3 else "minisblack"
        kept = values[..., 0] if samples == 1 else values
        tifffile.imwrite(path, kept, photometric=photometric, **options)

    return write


def _deep_png(path: Path, side: int) -> None:
    path.write_bytes(imagecodecs.png_encode(_numbers("uint16", side, 4), level=1))
