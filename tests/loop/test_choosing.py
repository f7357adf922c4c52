"""Which tiles a round is made of: pure, sound, and of every kind while there is no model."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from support.house import save_picture

from ml_backend.loop.choose import Known, choose, pool_of
from ml_backend.loop.models import Serving
from ml_backend.loop.pool import add_folder
from ml_backend.recipe import parse_recipe
from ml_backend.selection.appearance import SOURCE
from ml_backend.selection.strategies import STRATEGIES
from ml_backend.store.rows import Image, Tile

SERVING = Serving("p1-v1", None, ("cell",))


def tiles_of(train, val):
    """A pool of so many train and validation images."""
    sides = ["train"] * train + ["val"] * val
    return [
        Tile(number, Image(f"{number}.png", "", "", 8, 8, split=side, id=number), 0, 0, 8, 8)
        for number, side in enumerate(sides, 1)
    ]


def scores_of(tiles):
    """Scores of the training tiles, the highest first."""
    train = [tile for tile in tiles if tile.image.split == "train"]
    return {
        tile.id: {
            "entropy:mean": 1 / tile.id,
            "foreground": 0.1,
            "objects": 2.5,
            "margin:top": 0.0,
            "class:1": 0.2,
        }
        for tile in train
    }


def tile_that_was_asked():
    """A training tile that is no more in the pool, but of which everything is known."""
    (tile,) = tiles_of(1, 0)
    return replace(tile, id=999)


def recipe_of(**selection):
    """A recipe with these keys of its selection."""
    return parse_recipe({"selection": selection})


def test_a_choice_is_pure():
    """The same arguments give the same round and change none of them; numbers and seeds do."""
    tiles, recipe = tiles_of(40, 20), recipe_of(batch=8)
    scores = scores_of(tiles)
    before = copy.deepcopy((tiles, scores))
    one = choose(tiles, Known(scores), recipe, 1, SERVING)
    assert choose(tiles, Known(scores), recipe, 1, SERVING) == one
    assert (tiles, scores) == before
    assert choose(tiles, Known(scores), recipe, 2, SERVING).chosen != one.chosen
    assert choose(tiles, Known(scores), recipe_of(batch=8, seed=1), 1, SERVING).chosen != one.chosen
    assert one.model == "p1-v1"
    assert one.settings["selection"]["batch"] == 8


@given(
    train=st.integers(0, 30),
    val=st.integers(0, 30),
    batch=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.15, 0.25, 0.5, 0.9]),
    number=st.integers(1, 9),
    scored=st.booleans(),
    strategy=st.sampled_from(list(STRATEGIES)),
)
def test_a_choice_is_sound(train, val, batch, share, number, scored, strategy):
    """Distinct tiles, a full batch where the pool allows, validation only by the audit."""
    tiles = tiles_of(train, val)
    scores = scores_of([*tiles, tile_that_was_asked()]) if scored else {}
    recipe = recipe_of(batch=batch, audit_share=share, strategy=strategy)
    known = Known(scores, vectors_of([*tiles, tile_that_was_asked()], 3))
    record = choose(tiles, known, recipe, number, SERVING)
    ids = [item.tile_id for item in record.chosen]
    assert len(set(ids)) == len(ids)
    side = {tile.id: tile.image.split for tile in tiles}
    for item in record.chosen:
        assert side[item.tile_id] == ("val" if item.why == "audit" else "train")
        assert (item.score is not None) == (bool(scores) and item.why == "strategy")
    audits = sum(item.why == "audit" for item in record.chosen)
    assert len(ids) <= batch
    if val >= batch:
        assert len(ids) == min(batch, train + audits)
        assert audits >= int(batch * share)
    assert record.pool_size == train + val


@pytest.mark.parametrize(
    ("batch", "share"), [(1, 0.25), (3, 0.25), (20, 0.25), (20, 0.15), (7, 0.3)]
)
def test_the_audit_keeps_its_share_over_the_rounds(batch, share):
    """After any number of rounds the audits are the share of all tasks, rounded up."""
    tiles, count = tiles_of(40, 40), 0
    recipe = recipe_of(batch=batch, audit_share=share)
    for number in range(1, 13):
        record = choose(tiles, Known(), recipe, number, None)
        count += sum(item.why == "audit" for item in record.chosen)
        assert count == np.ceil(round(batch * share * number, 9))
        assert len(record.chosen) == batch


def test_the_top_strategy_takes_the_highest_scores():
    """With scores the named strategy chooses, and the record says how far above the pool."""
    tiles = tiles_of(20, 4)
    recipe = recipe_of(batch=4, audit_share=0.25, strategy="top")
    record = choose(tiles, Known(scores_of(tiles)), recipe, 1, SERVING)
    assert [item.tile_id for item in record.chosen if item.why == "strategy"] == [1, 2, 3]
    assert record.batch_mean == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert record.batch_mean > record.pool_mean
    assert choose(tiles, Known(), recipe, 1, None).strategy == "random"


def vectors_of(tiles, groups):
    """Embeddings in `groups` far corners, by the tiles' order."""
    corners = 10 * np.eye(groups)
    draw = np.random.default_rng(0)
    return {
        tile.id: corners[index % groups] + draw.normal(size=groups) / 10
        for index, tile in enumerate(tiles)
        if tile.image.split == "train"
    }


def test_without_a_model_the_batch_has_some_of_each_kind():
    """The looks of the images decide, and tiles that were not looked at are left alone."""
    tiles = tiles_of(40, 10)
    looks = vectors_of(tiles[:30], 4)
    for seed in range(5):
        recipe = recipe_of(batch=4, audit_share=0, seed=seed)
        record = choose(tiles, Known(embeddings=looks), recipe, 1, None)
        assert record.strategy == "clusters"
        assert {(item.tile_id - 1) % 4 for item in record.chosen} == {0, 1, 2, 3}
        assert max(item.tile_id for item in record.chosen) <= 30
        assert {item.score for item in record.chosen} == {None}


def test_a_round_gets_what_its_strategy_needs():
    """Scores, foreground, classes, looks, places, images and the round reach the right rows."""
    tiles = [replace(tile, x=8 - tile.id, image=tiles_of(2, 0)[tile.id % 2].image)
             for tile in tiles_of(6, 0)]  # fmt: skip
    scores = {
        tile.id: {"entropy:mean": tile.id / 7, "foreground": 0.1 * tile.id}
        | {"class:1": tile.id, "class:2": -tile.id}
        for tile in tiles
    }
    looks = {tile.id: np.full(3, tile.id) for tile in tiles}
    pool = pool_of(tiles, Known(scores, looks, [np.zeros(3)], 4), recipe_of())
    ids = np.arange(1, 7)
    np.testing.assert_allclose(pool.scores_N, ids / 7)
    np.testing.assert_allclose(pool.foreground_N, 0.1 * ids)
    np.testing.assert_array_equal(pool.classes_NK, np.stack([ids, -ids], axis=1))
    np.testing.assert_array_equal(pool.embeddings_ND, np.stack([ids] * 3, axis=1))
    assert pool.labelled_MD.shape == (1, 3)
    assert pool.sources_N.tolist() == [2, 1] * 3
    assert pool.order_N.tolist() == [5, 2, 4, 1, 3, 0]  # 1.png before 2.png, left before right
    assert pool.round == 5


def test_the_first_batch_looks_at_the_images(house):
    """Two kinds of pictures are both in the first batch, chosen by their looks."""
    for number in range(24):
        save_picture(house.images / f"{number}.png", number)
        if number >= 20:  # a few pictures of another stain
            path = house.images / f"{number}.png"
            shown = np.asarray(Picture.open(path))
            Picture.fromarray(255 - shown // 4).save(path)
    add_folder(house.context, house.project_id, house.images)
    house.recipe({"selection.batch": 8})
    assert house.step("select").numbers["strategy"] == "clusters"
    train = {
        tile.id: int(tile.image.name[:-4])
        for tile in house.catalog.pool.tiles(house.project_id)
        if tile.image.split == "train"
    }
    assert set(house.catalog.rounds.embeddings(house.project_id, SOURCE)) == set(train)
    chosen = {
        train[tile]
        for tile in [row["data"]["tile"] for row in house.studio.tasks.values()]
        if tile in train
    }
    assert any(number >= 20 for number in chosen)
    assert any(number < 20 for number in chosen)


def test_the_first_batch_of_a_large_pool_looks_at_some(house, monkeypatch):
    """However large the pool, the first batch does not wait until all of it was read."""
    monkeypatch.setattr("ml_backend.loop.select.FIRST_LOOK", 5)
    house.fill(24)
    assert house.step("select").numbers["pushed"] == 4
    assert len(house.catalog.rounds.embeddings(house.project_id, SOURCE)) == 5


def test_the_first_batch_may_be_drawn_at_random(house):
    """`selection.first: random` reads no image before it chooses."""
    house.recipe({"selection.first": "random"})
    house.fill(12)
    assert house.step("select").numbers["strategy"] == "random"
    assert not house.catalog.rounds.embeddings(house.project_id, SOURCE)


def test_one_picture_is_asked_about_once(house):
    """A copy under another name is not asked about beside it, nor after it."""
    house.fill(4)
    for number in range(4):
        copy_to = house.images / f"copy{number}.png"
        copy_to.write_bytes((house.images / f"{number}.png").read_bytes())
    add_folder(house.context, house.project_id, house.images)
    for _ in range(3):
        house.step("select")
        house.answer_open()
        house.step("sync")
    names = [row["data"]["name"] for row in house.studio.tasks.values()]
    assert sorted(name.removeprefix("copy") for name in names) == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
    ]
