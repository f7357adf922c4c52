"""How the memory of processes that compute is managed."""

import platform
from collections.abc import Mapping
from types import MappingProxyType


def allocator(libc: str) -> Mapping[str, str]:
    """Tune the allocator of processes that compute; `libc` is "glibc 2.36" or the like.

    glibc gives large blocks back to the system after each layer and faults them in again for
    the next (measured: docs/operations.md). Before 2.36 it may ignore thresholds above 32 MiB.
    """
    name, _, version = libc.partition(" ")
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if name != "glibc":
        return MappingProxyType({})
    threshold = 1 << 30 if numbers >= (2, 36) else 32 << 20
    return MappingProxyType(
        {
            "MALLOC_MMAP_THRESHOLD_": str(threshold),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
            "MALLOC_TOP_PAD_": str(64 << 20),
        }
    )


ALLOCATOR: Mapping[str, str] = allocator(" ".join(platform.libc_ver()))
