"""When a training ends before its last epoch."""

import math
from collections.abc import Sequence


def out_of_patience(scores: Sequence[float], patience: int | None, epochs: int) -> str | None:
    """Say why no epoch follows the last of `scores`, or None if one does or all are done.

    `scores` are the validation IoUs (0..1, or nan without labelled validation images, which is
    never a reason) of the epochs so far, of `epochs` in all. Only a higher IoU counts as better.
    It depends on the scores alone, so a training that was killed ends where it would have ended.
    """
    if patience is None or not 0 < len(scores) < epochs or any(map(math.isnan, scores)):
        return None
    best = max(range(len(scores)), key=lambda index: (scores[index], -index))
    if len(scores) - 1 - best < patience:
        return None
    return (
        f"stopped after epoch {len(scores)} of {epochs}: no better validation IoU than epoch "
        f"{best + 1}'s {scores[best]:.3f} (training.patience {patience})"
    )
