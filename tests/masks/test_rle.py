"""The codec: exact against the SDK, tolerant of browsers, hard on broken streams."""

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter import brush

from ml_backend.errors import MalformedRLE, RegionError
from ml_backend.masks import rle

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
ALPHAS = hnp.arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 0, 0, 2, 127, 128, 255]))


@pytest.fixture(params=["compiled", "plain"])
def _codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with numba and without it."""
    if request.param == "plain":
        monkeypatch.setattr(rle, "_compiled", lambda: None)


@st.composite
def binary_masks(draw: st.DrawFn) -> np.ndarray:
    """Blocky masks, so that runs of every size class occur, beyond 65536 values too."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    small = draw(hnp.arrays(np.bool_, (height, width)))
    factor = draw(st.sampled_from([1, 1, 2, 7, 30]))
    return np.repeat(np.repeat(small, factor, 0), factor, 1)


def write_bits(*fields: tuple[int, int]) -> list[int]:
    """Write (value, bits) pairs as a zero-padded list of bytes."""
    text = "".join(f"{value:0{bits}b}" for value, bits in fields)
    text += "0" * (-len(text) % 8)
    return [int(text[k : k + 8], 2) for k in range(0, len(text), 8)]


def header(count: int, sizes: tuple[int, ...] = (3, 4, 8, 16)) -> list[tuple[int, int]]:
    """Fields of a header."""
    return [(count, 32), (7, 5), *((size - 1, 4) for size in sizes)]


@pytest.mark.usefixtures("_codec")
def test_documented_example() -> None:
    """The stream printed in Label Studio's facts is what we write and read."""
    stream = [0, 0, 0, 16, 57, 27, 252, 127, 246, 192, 0]
    mask = np.array([[True, False], [False, False]])
    assert rle.encode_brush(mask) == stream
    assert rle.decode_brush(stream, 2, 2).tolist() == [[255, 0], [0, 0]]


@settings(deadline=None)
@given(binary_masks())
def test_encoder_is_the_sdks(mask: np.ndarray) -> None:
    """Streams of binary masks equal the SDK's byte for byte, with and without numba."""
    expected = brush.mask2rle(mask.astype(np.uint8) * 255)
    assert rle.encode_brush(mask) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_compiled", lambda: None)
        assert rle.encode_brush(mask) == expected


@settings(deadline=None)
@given(ALPHAS)
def test_round_trip_of_alpha(alpha: np.ndarray) -> None:
    """Anti-aliased alpha survives writing and reading, and the SDK reads what we wrote."""
    stream = rle.encode_brush(alpha)
    read = rle.decode_brush(stream, *alpha.shape)
    np.testing.assert_array_equal(read, alpha)
    np.testing.assert_array_equal(brush.decode_rle(stream).reshape(*alpha.shape, 4)[..., 3], alpha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_compiled", lambda: None)
        assert rle.encode_brush(alpha) == stream
        np.testing.assert_array_equal(rle.decode_brush(stream, *alpha.shape), alpha)


@settings(deadline=None)
@given(st.data())
def test_reads_any_block_structure(data: st.DataObject) -> None:
    """Literals of any length, any size table and R ≠ A decode as the SDK decodes them."""
    height, width = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    count = 4 * height * width
    sizes = tuple(data.draw(st.lists(st.integers(1, 16), min_size=4, max_size=4)))
    fields, done = header(count, sizes), 0
    while done < count:
        index, is_run = data.draw(st.integers(0, 3)), data.draw(st.booleans())
        length = data.draw(st.integers(1, min(count - done, 2 ** sizes[index])))
        values = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=1))
        if not is_run:
            values = data.draw(st.lists(st.integers(0, 255), min_size=length, max_size=length))
        fields += [(int(is_run), 1), (index, 2), (length - 1, sizes[index])]
        fields += [(value, 8) for value in values]
        done += length
    stream = write_bits(*fields)
    expected = brush.decode_rle(stream).reshape(height, width, 4)[..., 3]
    np.testing.assert_array_equal(rle.decode_brush(stream, height, width), expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_compiled", lambda: None)
        np.testing.assert_array_equal(rle.decode_brush(stream, height, width), expected)


@pytest.mark.usefixtures("_codec")
def test_hand_written_literals_and_another_size_table() -> None:
    """A literal block that ends inside a pixel is joined with the next; only alpha is kept."""
    stream = write_bits(
        *header(12, (2, 5, 9, 12)),
        *[(0, 1), (1, 2), (6 - 1, 5), *((value, 8) for value in (1, 2, 3, 200, 5, 6))],
        *[(1, 1), (0, 2), (2 - 1, 2), (77, 8)],
        *[(0, 1), (3, 2), (4 - 1, 12), *((value, 8) for value in (9, 9, 9, 128))],
    )
    assert rle.decode_brush(stream, 1, 3).tolist() == [[200, 77, 128]]


@pytest.mark.usefixtures("_codec")
@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ([], "too short"),
        ([0, 0, 0, 16, 57], "too short"),
        ("AAAA", "list of bytes"),
        (None, "list of bytes"),
        (4_000_000_000, "list of bytes"),
        ([0, 0, 0, 16, 57, 27, 300], "0..255"),
        ([0, 0, 0, 16, 57, 27, 1.5], "0..255"),
        ([0, 0, 0, 20, 57, 27, 252, 127, 246, 192, 0], "2 x 2"),
        ([255] * 200, "2 x 2"),
        ([0, 0, 0, 16, 57, 27, 252, 127], "ends before"),
        (write_bits((16, 32), (15, 5), (0, 16), (0, 100)), "16-bit"),
        (write_bits(*header(16), (1, 1), (3, 2), (16, 16), (255, 8)), "runs past"),
        (write_bits(*header(16), (0, 1), (3, 2), (16, 16), *[(1, 8)] * 17), "runs past"),
        (write_bits(*header(16), (0, 1), (3, 2), (15, 16), *[(1, 8)] * 10), "ends before"),
    ],
)
def test_malformed_streams_are_refused(stream: object, message: str) -> None:
    """Whatever is not a whole stream of the claimed size raises MalformedRLE and says why."""
    with pytest.raises(MalformedRLE, match=message):
        rle.decode_brush(stream, 2, 2)


def test_large_claims_cost_nothing() -> None:
    """A few bytes that claim a gigapixel are refused before it is allocated."""
    side = 32000
    stream = write_bits(*header(4 * side * side), *[(1, 1), (3, 2), (65535, 16), (255, 8)] * 40)
    tracemalloc.start()
    with pytest.raises(MalformedRLE, match="ends before"):
        rle.decode_brush(stream, side, side)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    with pytest.raises(MalformedRLE, match="is not a mask"):
        rle.decode_brush(stream, 65536, 65536)


def test_fuzzed_streams_never_crash() -> None:
    """Ten thousand damaged streams are either read or refused, alike with and without numba."""
    rng = np.random.default_rng(5)
    whole = rle.encode_array(rng.integers(0, 9, (9, 7)).astype(np.uint8) // 4 * 100)
    outcomes = set()
    for _ in range(10_000):
        damaged = whole.copy()
        damaged[rng.integers(4, whole.size, 3)] = rng.integers(0, 256, 3)
        damaged = damaged[: rng.integers(1, whole.size + 1)] if rng.random() < 0.3 else damaged
        results = []
        for plain in (False, True) if rng.random() < 0.1 else (False,):
            with pytest.MonkeyPatch.context() as patch:
                if plain:
                    patch.setattr(rle, "_compiled", lambda: None)
                try:
                    results.append(rle.decode_brush(damaged, 9, 7).tobytes())
                except MalformedRLE as error:
                    results.append(str(error))
        assert len(set(results)) == 1
        outcomes.add(type(results[0]))
    assert outcomes == {bytes, str}


def test_a_mask_of_ones_is_visible() -> None:
    """True, and 1 in a mask of only 0 and 1, become alpha 255; other alphas stay as they are."""
    ones = np.eye(5, dtype=np.uint8)
    assert rle.encode_brush(ones) == rle.encode_brush(ones.astype(bool))
    assert rle.decode_brush(rle.encode_brush(ones), 5, 5).max() == 255
    assert rle.decode_brush(rle.encode_brush(ones * 2), 5, 5).max() == 2


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((0, 4), bool),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2, 4), np.uint8),
        np.broadcast_to(np.False_, (40_000, 40_000)),
    ],
)
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    """Arrays the format cannot hold raise RegionError before anything is copied."""
    with pytest.raises(RegionError, match="cannot be written as a brush region"):
        rle.encode_brush(mask)


def test_views_are_masks_too() -> None:
    """Transposed, strided and unaligned arrays are written as their pixels say."""
    base = np.random.default_rng(0).random((40, 41)) < 0.3
    for view in (base.T, base[::2, 3:], base.reshape(-1)[3:][:1600].reshape(40, 40)):
        assert rle.encode_brush(view) == rle.encode_brush(view.copy())
        np.testing.assert_array_equal(
            rle.decode_brush(rle.encode_array(view), *view.shape), view * 255
        )


def test_memory_stays_within_three_masks() -> None:
    """Neither writing nor reading the worst case needs more than three times the mask."""
    mask = np.indices((1024, 1024)).sum(axis=0) % 2 == 0
    rle.warm_up()
    stream = rle.encode_array(mask)
    for call in (lambda: rle.encode_array(mask), lambda: rle.decode_brush(stream, *mask.shape)):
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 3 * mask.nbytes


def test_array_serialises_like_the_list() -> None:
    """Orjson writes the array as the JSON that json writes of the list."""
    mask = np.random.default_rng(1).random((30, 30)) < 0.5
    text = orjson.dumps(rle.encode_array(mask), option=orjson.OPT_SERIALIZE_NUMPY)
    assert json.loads(text) == rle.encode_brush(mask)


READ_ONLY = """
import sys, numba, pathlib
from numba.core import caching
class Nowhere(caching.InTreeCacheLocator):
    def ensure_cache_path(self):
        raise OSError("read-only")
caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator, Nowhere]
import numpy as np
from ml_backend.masks import rle
folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
assert rle.warm_up(folder)
print(rle.encode_brush(np.eye(2, dtype=bool)))
"""


@pytest.mark.parametrize("has_folder", [True, False])
def test_read_only_installation(tmp_path, has_folder: bool) -> None:
    """Where neither package nor home can be written, the codec works and uses the given folder."""
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", READ_ONLY, *([str(folder)] if has_folder else [])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == rle.encode_brush(np.eye(2, dtype=bool))
    assert bool(list(folder.rglob("*.nbi"))) == has_folder
