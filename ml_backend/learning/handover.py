"""A training handed to other processes: arrays in one file without a name, the rest as JSON.

A sample is a function over catalog and storage, which no other process can be sent, and nothing
is ever unpickled here. A forked process would inherit threads, and cannot use CUDA. So the
arrays are written out once, and every process maps the file: they share its pages, memory sets no
limit to it, and the kernel frees it with the last process, however that one ends.
"""

import mmap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ml_backend.errors import LearningError
from ml_backend.learning.data import Sample, region_side
from ml_backend.learning.job import Job
from ml_backend.learning.references import Reference, References
from ml_backend.learning.state import to_arrays, to_tensors
from ml_backend.recipe import parse_recipe

_ALIGNED = 64

Place = tuple[int, str, list[int]]
"""Offset in bytes, dtype and shape of an array in the file."""


def pack(job: Job, file: BinaryIO) -> dict[str, Any]:
    """Write the arrays of a training into `file`; the rest, as JSON with their places."""
    settings = job.recipe.training
    small = job.small
    if small is None and job.pool:
        small = References(job.pool, region_side(settings), settings.seed).small()
    packed = {
        "train": _pack_samples(job.train, file),
        "val": _pack_samples(job.val, file),
        "recipe": job.recipe.model_dump(mode="json", by_alias=True),
        "classes": job.classes,
        "labels": job.labels,
        "precision": job.precision,
        "overlapping": job.overlapping,
        "pool": [reference.name for reference in job.pool],
        "small": None if small is None else [(_put(image, file), stats) for image, stats in small],
        "initial": _pack_weights(job.initial, file),
        "encoder": _pack_weights(job.encoder, file),
    }
    file.flush()
    return packed


def unpack(packed: dict[str, Any], descriptor: int) -> Job:
    """The inverse of `pack`, over the file's descriptor; arrays are read-only."""
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    small = packed["small"]
    return Job(
        _unpack_samples(packed["train"], mapped),
        _unpack_samples(packed["val"], mapped),
        parse_recipe(packed["recipe"]),
        packed["classes"],
        tuple(packed["labels"]),
        [Reference(name, _closed) for name in packed["pool"]],
        _unpack_weights(packed["initial"], mapped),
        _unpack_weights(packed["encoder"], mapped),
        None
        if small is None
        else [(_take(place, mapped), (stats[0], stats[1])) for place, stats in small],
        packed["precision"],
        packed["overlapping"],
    )


def _pack_samples(samples: Iterable[Sample], file: BinaryIO) -> list[dict[str, Any]]:
    rows = []
    for sample in samples:
        image, mask = sample.load()
        places = [_put(array, file) for array in (image, mask)]
        rows.append({"name": sample.name, "weight": sample.weight, "arrays": places})
    return rows


def _unpack_samples(rows: Iterable[dict[str, Any]], mapped: mmap.mmap) -> list[Sample]:
    def loader(places: list[Place]) -> Callable[[], Any]:
        pair = tuple(_take(place, mapped) for place in places)
        return lambda: pair

    return [Sample(row["name"], loader(row["arrays"]), row["weight"]) for row in rows]


def _pack_weights(state: Mapping[str, Tensor] | None, file: BinaryIO) -> dict[str, Place] | None:
    if state is None:
        return None
    return {name: _put(array, file) for name, array in to_arrays(state).items()}


def _unpack_weights(places: dict[str, Place] | None, mapped: mmap.mmap) -> Any:
    if places is None:
        return None
    return to_tensors({name: _take(place, mapped) for name, place in places.items()})


def _put(array: NDArray[Any], file: BinaryIO) -> Place:
    file.write(bytes(-file.tell() % _ALIGNED))
    place = file.tell(), array.dtype.str, list(array.shape)
    file.write(np.ascontiguousarray(array).data)
    return place


def _take(place: Place, mapped: mmap.mmap) -> NDArray[Any]:
    offset, dtype, shape = place
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(mapped, dtype, count, offset).reshape(shape)


def _closed() -> NDArray[np.uint8]:
    raise LearningError("images of the pool are handed over small, never to be opened again")
