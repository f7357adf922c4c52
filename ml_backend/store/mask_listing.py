"""What lies at an address of masks, by the names by which it is matched."""

from collections.abc import Sequence

from ml_backend.store.documents import SUFFIXES as DOCUMENTS
from ml_backend.store.documents import MaskDocument, open_documents
from ml_backend.store.endings import SUFFIXES as IMAGES
from ml_backend.store.listing import ListedFile, shown
from ml_backend.store.summary import Summary

SUFFIXES = IMAGES | DOCUMENTS
_NAMED_BY_STEM = {"YOLO", "Cellpose"}


class MaskListing:
    """The masks at an address by the name by which they are matched."""

    def __init__(self, files: Sequence[ListedFile], summary: Summary) -> None:
        documents = open_documents(files, summary)
        self.documents: dict[str, MaskDocument] = {}
        for name, document in documents.items():
            named = name if document.form in _NAMED_BY_STEM else f"{name}.json"
            self.documents[named] = document
        self.all = {file.name: file for file in files}
        self.files = {
            file.name: file
            for file in files
            if f".{file.name.rpartition('.')[2].lower()}" in IMAGES
        }

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.files, *self.documents]

    def shown(self, name: str) -> str:
        """The name as it is told."""
        document = self.documents.get(name)
        return shown(name if document is None else f"{document.image} of {document.file}")
