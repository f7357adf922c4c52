"""Files at any address: read by parts, every failure in words of our own."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_backend.errors import ImageUnreadable, NotFound, PoolMoved
from ml_backend.store.addresses import file_system

_NO_BUCKETS = {"file", "http", "https", "data"}  # each file for itself


class RemoteFile(io.RawIOBase):
    """An open file of any address; what goes wrong there is no fault of the picture's."""

    def __init__(self, file: Any, uri: str) -> None:
        super().__init__()
        self._file, self._uri = file, uri

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes."""
        with translate_fetch_errors(self._uri):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Where it is."""
        return int(self._file.tell())


@contextmanager
def translate_fetch_errors(uri: str) -> Iterator[None]:
    """Say of every way in which a file cannot be had which file it is.

    Raises `ImageUnreadable`, and `PoolMoved` where the whole place cannot be reached: a network
    that is down or a key that has run out must not set every image aside.
    """
    try:
        yield
    except (ImageUnreadable, PoolMoved):
        raise
    except (FileNotFoundError, NotFound) as error:
        if "bucket" in str(error).lower():
            _check_place(uri, error)
        raise ImageUnreadable(f"{uri} does not exist; put it back or add the pool again") from None
    except Exception as error:  # fsspec's back ends raise their vendors' own types
        _check_place(uri, error)
        raise ImageUnreadable(
            f"{uri} cannot be fetched: {type(error).__name__}: {error}"
        ) from error


def _check_place(uri: str, cause: Exception) -> None:
    """Raise `PoolMoved` unless the bucket of a remote file can be reached."""
    kind, mark, rest = uri.partition("://")
    if not mark or kind.lower() in _NO_BUCKETS:
        return
    place = f"{kind}://{rest.lstrip('/').partition('/')[0]}"
    try:
        fs, root = file_system(place)
        fs.invalidate_cache()
        there = bool(fs.exists(root))
    except Exception:  # whatever is wrong, the first failure says it
        there = False
    if not there:
        raise PoolMoved(
            f"{place} cannot be reached, so no image of it is to blame ({type(cause).__name__}: "
            f"{cause}): check the network, the credentials and the name"
        ) from cause
