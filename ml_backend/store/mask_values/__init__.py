"""Masks as people have them → label maps and the numbers of objects.

`options` is what a person says of a mask's values, `codes` the numbers that stand in a file,
`guesses` what they mean where nobody says it (docs/files.md has the rules in words), `table` how
everything else is refused.
"""

from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values.options import IGNORE, Band, Code, Values, parse_values
from ml_backend.store.mask_values.reading import read_mask, read_mask_file, read_objects

__all__ = [
    "IGNORE",
    "Band",
    "Code",
    "MaskReading",
    "Values",
    "parse_values",
    "read_mask",
    "read_mask_file",
    "read_objects",
]
