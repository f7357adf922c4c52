"""The refusal of a mask: its values, how much each covers, what it may be, and the way out."""

from collections.abc import Sequence

import numpy as np

from ml_backend.errors import RegionError
from ml_backend.store.mask_values.codes import MOST_ROWS, Codes, channels_of

_SMALL = 9  # numbers of classes rather than greys


def refusal(codes: Codes, labels: int, why: str) -> RegionError:
    """The error for codes that do not say which of the labels they are, without the mask's name.

    It lists the values that cover most (value, share, what it may be) and ends with an option that
    a person can take over, or correct.
    """
    found, counts = codes.count()
    meanings = _meanings(codes, found.tolist(), labels)
    order = np.argsort(-counts, kind="stable")[:MOST_ROWS]
    rows = [
        f"{shown(codes, int(found[at]))} ({counts[at] / codes.plane.size:.1%}: {meanings[at][0]})"
        for at in sorted(order.tolist())
    ]
    more = f" and {len(found) - len(order)} more values" if len(found) > len(order) else ""
    return RegionError(
        f"holds {', '.join(rows)}{more}: {why}; say what they are: --mask-values "
        f"'{_option(codes, found.tolist(), [meaning[1] for meaning in meanings])}'"
    )


def shown(codes: Codes, code: int) -> str:
    """A code as it is written in `--mask-values`."""
    if codes.kind == "colours":
        return "#" + "".join(f"{channel:02x}" for channel in channels_of(code))
    return f"{code / 255:.3g}" if codes.kind == "shares" else str(code)


def _meanings(codes: Codes, found: Sequence[int], labels: int) -> list[tuple[str, str]]:
    """What each value may be, in words and as the right side of an option."""
    if codes.kind == "colours":
        return _of_colours(found, labels)
    if 0 not in found and len(found) > 1:
        return _of_counted(found, labels)
    said = []
    rank = 0
    others = [code for code in found if code not in codes.ignore]
    are_small = len(found) > 2 and max(others, default=0) <= max(labels, _SMALL)
    for code in found:
        if code == 0:
            said.append(("background", "0"))
        elif code < 0 or (code in codes.ignore and are_small):
            said.append(("unknown", "ignore"))
        else:
            rank += 1
            label = min(rank, labels)
            said.append((f"label {label}", str(label)))
    return said


def _of_colours(found: Sequence[int], labels: int) -> list[tuple[str, str]]:
    said = []
    rank = 0
    for code in found:
        if max(channels_of(code)) == 0:
            said.append(("background", "0"))
        else:
            rank += 1
            label = rank if rank <= labels else 0
            said.append((f"label {label}" if label else "another label", str(label)))
    return said


def _of_counted(found: Sequence[int], labels: int) -> list[tuple[str, str]]:
    """Values without 0: counted from 1, where 1 is the background; or the parts of a trimap."""
    if list(found) == [1, 2, 3] and labels == 1:
        return [("object of a trimap", "1"), ("its background", "0"), ("its border", "ignore")]
    said = [("background, as some tools count from 1", "0")]
    for rank, _ in enumerate(found[1:], 1):
        label = min(rank, labels)
        said.append((f"label {label}", str(label)))
    return said


def _option(codes: Codes, found: Sequence[int], labels: Sequence[str]) -> str:
    """One CODE=LABEL for each value; bands where values are many."""
    if len(found) <= MOST_ROWS:
        pairs = zip(found, labels, strict=True)
        return ",".join(f"{shown(codes, code)}={label}" for code, label in pairs)
    if codes.kind == "colours":
        return "#000000=0,*=1"
    if codes.kind == "shares":
        return "0-0.5=0,0.5-1=1"
    lowest = "" if 0 in found else f"{found[0]}=0,"
    top = found[-1]
    if found[0] < 0:
        return f"{found[0]}--1=ignore,0=0,1-{top}=1"
    return f"{lowest or '0=0,'}{found[1] if lowest else 1}-{top}=1"
