"""Images and masks as people have them: what `benchmark.py images` runs."""

from collections.abc import Iterator

import benchmark_decoding
import benchmark_intake
import benchmark_matching
from benchmark import Row


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure how masks are matched and what intake and decoding cost; less of it if `quick`."""
    yield from benchmark_matching.rows(quick=quick)
    yield from benchmark_intake.rows(quick=quick)
    yield from benchmark_decoding.rows(quick=quick)
