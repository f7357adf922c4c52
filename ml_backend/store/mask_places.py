"""Where files are, whatever links lead there: whether images lie among masks."""

from pathlib import Path

from ml_backend.store.addresses import file_system
from ml_backend.store.blobs import local_folder
from ml_backend.store.listing import ListedFile


class Places:
    """Addresses of files with the links of their folders followed, each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, file: ListedFile) -> str:
        """Where a file is."""
        folder, _, name = file.uri.rpartition("/")
        if folder not in self._folders:
            path = local_folder(folder or "/")
            self._folders[folder] = folder if path is None else str(path.resolve())
        return f"{self._folders[folder].rstrip('/')}/{name}"

    def root(self, address: Path | str) -> str:
        """Where an address is."""
        path = local_folder(str(address))
        if path is not None:
            return str(path.resolve())
        fs, place = file_system(str(address))
        return str(fs.unstrip_protocol(place)).rstrip("/")

    def below(self, root: str, file: ListedFile) -> str | None:
        """The path of a file from such a root, or None if it does not lie there."""
        place = self.of(file)
        if place == root:
            return place.rpartition("/")[2]
        start = f"{root.rstrip('/')}/"
        return place.removeprefix(start) if place.startswith(start) else None

    def is_above(self, image: ListedFile, file: ListedFile) -> bool:
        """Whether a file lies in the folder that an image was listed in."""
        name = f"/{image.name}"
        place = self.of(image)
        return place.endswith(name) and self.of(file).startswith(place.removesuffix(name) + "/")
