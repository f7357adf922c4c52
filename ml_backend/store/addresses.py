"""Addresses of files that are not on this machine: which file system, and where in it."""

import re
from typing import Any

import fsspec

from ml_backend.errors import StoreError

_CHAIN = re.compile(r"::[A-Za-z0-9+.-]+://|::/|^[A-Za-z0-9+.-]+::")


def file_system(address: str) -> tuple[Any, str]:
    """Give the fsspec file system of an address and the path in it.

    As `fsspec.core.url_to_fs`, but `::` in a name starts no chain of file systems. Raises
    `StoreError` for an address of which fsspec knows nothing.
    """
    try:
        if "::" in address and _CHAIN.search(address) is None:
            kind = fsspec.get_filesystem_class(address.partition("://")[0])
            return kind(**kind._get_kwargs_from_urls(address)), kind._strip_protocol(address)  # noqa: SLF001  # no public way around the chain
        fs, path = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise StoreError(
            f"the address {address!r} cannot be used: {error}; "
            "give a folder, or install the fsspec package of that protocol"
        ) from None
    return fs, path
