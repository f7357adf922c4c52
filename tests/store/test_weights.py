"""Model files: published whole or not at all, checked when read."""

import hashlib
import subprocess
import sys

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.errors import ModelFileError, NotFound, StoreError
from ml_backend.store.blobs import Blobs
from ml_backend.store.weights import (
    CARD,
    WEIGHTS,
    list_models,
    load_model,
    model_key,
    read_card,
    save_model,
)

KEY = model_key(7, "v3")


@pytest.fixture(params=["folder", "bucket"])
def blobs(request, tmp_path):
    """A home folder and a bucket."""
    return Blobs(tmp_path if request.param == "folder" else f"memory://{tmp_path.name}")


@pytest.fixture
def state():
    """Weights with the shapes that go wrong: 0-d counters, transposed and empty arrays."""
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "bn.num_batches_tracked": np.array(12, np.int64),
        "transposed": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "empty": np.zeros((0, 2), np.float16),
    }


def test_round_trip(blobs, state):
    """Arrays keep names, values, shapes and dtypes and may be written to; the card comes back."""
    stored = save_model(blobs, KEY, state, {"iou": 0.5, "labels": ["a"], "n": np.float32(2)})
    loaded, card = load_model(blobs, KEY)
    assert card == stored == read_card(blobs, KEY)
    assert card["iou"] == 0.5
    assert card["labels"] == ["a"]
    assert card["file"]["bytes"] == len(blobs.read(f"{KEY}/{WEIGHTS}"))
    assert loaded.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype)
        assert loaded[name].flags.writeable


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
            lambda name: name != "__metadata__"
        ),
        hnp.arrays(
            st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_]),
            hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
        ),
        max_size=3,
    )
)
def test_any_state_comes_back_bit_by_bit(tmp_path_factory, state):
    """Whatever the arrays hold, nan included, their bytes come back."""
    blobs = Blobs(tmp_path_factory.mktemp("weights"))
    save_model(blobs, KEY, state, {})
    loaded, _ = load_model(blobs, KEY)
    assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in loaded.items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in state.items()
    }


def test_a_card_without_finite_numbers(blobs, state):
    """A metric that is nan becomes null, so the card is JSON for everyone."""
    assert save_model(blobs, KEY, state, {"iou": float("nan")})["iou"] is None


def test_a_half_published_version_does_not_exist(blobs, state):
    """Weights without a card are neither listed nor loaded, and publishing again completes them."""
    save_model(blobs, KEY, state, {})
    blobs.delete(f"{KEY}/{CARD}")
    assert list_models(blobs) == []
    with pytest.raises(NotFound, match="v3"):
        load_model(blobs, KEY)
    save_model(blobs, KEY, {"other": np.ones(3)}, {})
    assert list_models(blobs) == [KEY]
    np.testing.assert_array_equal(load_model(blobs, KEY)[0]["other"], np.ones(3))


def test_nothing_is_published_when_the_place_fails(tmp_path, state, monkeypatch):
    """A disk that fills up between weights and card leaves no version behind."""
    blobs = Blobs(tmp_path)
    write = Blobs.write

    def full_at_the_card(self, key, data):
        if key.endswith(CARD):
            raise StoreError("no space is left")
        write(self, key, data)

    monkeypatch.setattr(Blobs, "write", full_at_the_card)
    with pytest.raises(StoreError):
        save_model(blobs, KEY, state, {})
    assert list_models(blobs) == []


def test_a_card_that_is_not_json_publishes_nothing(blobs, state):
    """The card is checked before a byte is written."""
    with pytest.raises(ModelFileError, match=r"v3.*JSON"):
        save_model(blobs, KEY, state, {"recipe": object()})
    assert blobs.list() == []


def test_publishing_the_same_again(blobs, state):
    """A step that was killed after publishing may run again; other weights are refused."""
    save_model(blobs, KEY, state, {"seconds": 1})
    assert save_model(blobs, KEY, state, {"seconds": 2})["seconds"] == 2
    with pytest.raises(ModelFileError, match="already published"):
        save_model(blobs, KEY, {**state, "more": np.ones(1)}, {})
    assert load_model(blobs, KEY)[0].keys() == state.keys()


@pytest.mark.parametrize(
    "harm",
    [lambda data: data[:-1], lambda data: data[:40] + b"\x01" + data[41:], lambda _: b""],
    ids=["truncated", "one byte changed", "emptied"],
)
def test_damaged_weights_are_never_served(blobs, state, harm):
    """Truncation and a flipped byte are found by the card's checksum."""
    save_model(blobs, KEY, state, {})
    blobs.write(f"{KEY}/{WEIGHTS}", harm(blobs.read(f"{KEY}/{WEIGHTS}")))
    with pytest.raises(ModelFileError, match="damaged"):
        load_model(blobs, KEY)
    assert read_card(blobs, KEY)


def test_lost_weights(blobs, state):
    """A card whose weights are gone says so."""
    save_model(blobs, KEY, state, {})
    blobs.delete(f"{KEY}/{WEIGHTS}")
    with pytest.raises(ModelFileError, match="lost"):
        load_model(blobs, KEY)


@pytest.mark.parametrize(
    "card", [b"", b"{", b"[]", b"null", b"{}", b'{"file": {"bytes": "3"}}', b"\xff\xfe"]
)
def test_a_card_that_is_none(blobs, card):
    """Anything but a card with its checksum is refused, never guessed at."""
    blobs.write(f"{KEY}/{CARD}", card)
    with pytest.raises(ModelFileError, match="not a model's card"):
        read_card(blobs, KEY)


def test_weights_that_are_no_safetensors(blobs):
    """A rightly sealed file of another kind is refused with the reason."""
    save_model(blobs, KEY, {}, {})
    card = read_card(blobs, KEY)
    junk = b"not safetensors"
    card["file"] = {"bytes": len(junk), "sha256": hashlib.sha256(junk).hexdigest()}
    blobs.write(f"{KEY}/{WEIGHTS}", junk)
    blobs.write(f"{KEY}/{CARD}", orjson.dumps(card))
    with pytest.raises(ModelFileError, match="no safetensors file"):
        load_model(blobs, KEY)


def test_lists_in_natural_order(blobs, state):
    """Versions are listed v2 before v10, for one project or for all."""
    keys = [model_key(1, "v2"), model_key(1, "v10"), model_key(10, "v1")]
    for key in reversed(keys):
        save_model(blobs, key, state, {})
    assert list_models(blobs) == keys
    assert list_models(blobs, "models/1") == keys[:2]


def test_a_key_cannot_leave_the_root(blobs, state):
    """A version that is a path is refused."""
    with pytest.raises(StoreError, match="not a key"):
        save_model(blobs, model_key(1, "../../v1"), state, {})


def test_the_room_does_not_import_torch():
    """Reading model files is a matter of numpy alone."""
    code = "import sys, ml_backend.store.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
