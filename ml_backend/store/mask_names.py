"""What the name of a file says: its stem, words that mark a mask or an image, its folder.

Names are compared as people read them: in whatever case, composed or decomposed (NFC, NFD).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

MASK_WORDS = frozenset({
    "mask", "masks", "label", "labels", "lbl", "seg", "segs", "segm", "segmentation",
    "segmentations", "segmented", "gt", "gts", "truth", "ground", "groundtruth", "annotation",
    "annotations", "annot", "ann", "anno", "cp", "cellpose", "cellprofiler", "stardist",
    "ilastik", "manual", "manually", "roi", "rois", "instance", "instances", "semantic", "semseg",
    "panoptic", "binary", "bw", "simple", "identities", "objects", "predictions", "prediction",
    "target", "targets", "gtfine", "gtcoarse", "labelids", "instanceids", "labeltrainids",
    "labelmap", "outlined", "labeled", "labelled",
})  # fmt: skip
"""Words that mark a mask: `x_cp_masks.tif`, `mask_7.png`, the folder `labelsTr`."""

SURE_WORDS = frozenset({
    "mask", "masks", "label", "labels", "seg", "segmentation", "segmentations", "gt",
    "groundtruth", "cp",
})  # fmt: skip
"""Those of them that mark nothing else."""

IMAGE_WORDS = frozenset({
    "image", "images", "img", "imgs", "im", "raw", "orig", "original", "originals", "picture",
    "pictures", "photo", "photos", "jpegimages", "pngimages", "leftimg8bit", "input", "inputs",
})  # fmt: skip
"""Words that mark an image: `x_img.png`, the folder `imagesTr`."""

_PAGE_WORDS = frozenset({
    "p", "page", "pages", "z", "slice", "slices", "frame", "t", "section", "sections", "plane",
    "s",
})  # fmt: skip
_ENDINGS = frozenset({
    "ome", "nii", "gz", "tar", "tif", "tiff", "btf", "png", "jpg", "jpeg", "jpe", "jfif", "bmp",
    "gif", "webp", "jp2", "avif", "tga", "ppm", "pgm", "svs", "lsm", "czi", "nd2", "lif", "dcm",
    "npy", "npz", "json", "txt", "xml", "zarr", "mrc", "heic",
})  # fmt: skip
_SEPARATORS = re.compile(r"[ \xa0\u202f_\-.,;()\[\]{}+~=]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_CHANNEL = re.compile(r"^(.+)_(\d{4})$")  # of nnU-Net
_HASH = re.compile(r"^(.+)_[a-z0-9]{3,4}\.rf\.[0-9a-z]+$")  # of Roboflow
_WORD_FIRST = re.compile(r"^([^\W\d_]+)[ \xa0_\-.]*(?=.)")
_WORD_LAST = re.compile(r"(?<=\d)[^\W\d_]+$")
_NUMBER_LAST = re.compile(r"^(.*?)[ _\-.]*(\d+)$")


def fold(text: str) -> str:
    """The text as it is compared: one case, accents composed."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def squash(text: str) -> str:
    """The text without the characters that file names have in place of others."""
    return re.sub(r"[\s_\-.,;()\[\]{}+~=\\/:*?\"<>|]+", "", fold(text))


def words(text: str) -> list[str]:
    """Split at separators."""
    return [word for word in _SEPARATORS.split(text) if word]


def plain(word: str) -> str:
    """A word without the number that it ends on."""
    return word.rstrip("0123456789")


def are_marks(found: Sequence[str], marks: frozenset[str] = MASK_WORDS) -> bool:
    """Whether there are words, and all of them (but for their numbers) are such marks."""
    return bool(found) and all(word in marks or plain(word) in marks for word in found)


class Name(NamedTuple):
    """A name: as found, its folders, and its stems, each an ending shorter than the one before.

    `stems` begin with the whole file name. `place` is the folder without the words that mark it as
    one of images or masks, so that `train/images` and `train/masks` are one place.
    """

    text: str
    folders: tuple[str, ...]
    stems: tuple[str, ...]
    place: tuple[str, ...]

    @property
    def stem(self) -> str:
        """The shortest one."""
        return self.stems[-1]

    @property
    def file(self) -> str:
        """The file's name in the case that it has."""
        return unicodedata.normalize("NFC", self.text.rpartition("/")[2])

    @property
    def spelling(self) -> str:
        """The file's name before its last ending, in the case that it has."""
        return self.file.rpartition(".")[0]

    def without_folder(self, at: int) -> "Name":
        """The same as if it did not lie in the n-th of its folders."""
        folders = self.text.split("/")[:-1]
        del folders[at]
        inside, place = _inside("/".join(folders))
        return self._replace(folders=inside, place=place)


def parse(text: str) -> Name:
    """Take a name apart; folders are separated by `/`."""
    folder, _, file = text.rpartition("/")
    folders, place = _inside(folder)
    return Name(text, folders, tuple(_stems(fold(file))), place)


@lru_cache(maxsize=2**16)
def _inside(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders of a path, and the place that they are."""
    folders = folder.split("/") if folder else []
    return tuple(map(fold, folders)), place_of(folders)


def _stems(file: str) -> Iterator[str]:
    yield file
    stem, dot, ending = file.rpartition(".")
    while dot and stem:
        yield stem
        stem, dot, ending = stem.rpartition(".")
        if ending not in _ENDINGS:
            return


def place_of(folders: Iterable[str]) -> tuple[str, ...]:
    """Folders without the words that mark what is in them, and without those of nothing else."""
    return tuple(rest for rest in map(_place, folders) if rest)


@lru_cache(maxsize=2**16)
def _place(folder: str) -> str:
    found = _folder_words(folder)
    return " ".join(word for word in found if not are_marks([word], MASK_WORDS | IMAGE_WORDS))


@lru_cache(maxsize=2**16)
def is_mask_folder(folder: str, marks: frozenset[str] = MASK_WORDS) -> bool:
    """Whether a folder's name says that it holds masks."""
    found = _folder_words(folder)
    return any(are_marks([word], marks) for word in found) and not any(
        are_marks([word], IMAGE_WORDS) for word in found
    )


def _folder_words(folder: str) -> list[str]:
    return words(fold(_CAMEL.sub(" ", folder)))


def cuts(stem: str) -> Iterator[tuple[str, str]]:
    """Where a stem may end and something be added, the longest beginning first: (stem, rest)."""
    last = _WORD_LAST.search(stem)
    if last and last.group() in MASK_WORDS:
        yield stem[: last.start()], last.group()
    ends = [found.start() for found in _SEPARATORS.finditer(stem)]
    yield from ((stem[:end], stem[end:]) for end in reversed(ends) if end)


def without_first(stem: str, marks: frozenset[str]) -> str | None:
    """The stem without marks before it (`mask_7`, `man_seg7` → `7`), None if there is none."""
    rest = stem
    while (found := _WORD_FIRST.match(rest)) and found[1] in marks:
        rest = rest[found.end() :]
    return rest if rest != stem else None


STEM, FILE, SHORT, BARE, CHANNEL = range(5)
"""How surely an image answers to a key: its stem, its file's name, its stem without a second ending
(`a` of `a.ome.tif`), its stem without words of an image, or without what a tool appends."""


def image_keys(name: Name) -> Iterator[tuple[int, str, str]]:
    """What an image answers to: (rank, key, how)."""
    file, stem = name.stems[0], name.stem
    for place, key in enumerate(name.stems):
        rank = STEM if key == name.stems[min(1, len(name.stems) - 1)] else SHORT
        yield (FILE if key == file and place == 0 and rank != STEM else rank), key, "the same name"
    bare = without_first(stem, IMAGE_WORDS)
    if bare is not None:
        yield BARE, bare, f"the name without {stem.removesuffix(bare)!r}"
    beginning = next(
        (found for found in cuts(stem) if are_marks(words(found[1]), IMAGE_WORDS)), None
    )
    if beginning is not None:
        yield BARE, beginning[0], f"the name without {beginning[1]!r}"
    if name.place and are_marks(words(stem), IMAGE_WORDS):
        yield BARE, name.place[-1], "the name of the folder"
    if found := _CHANNEL.match(stem):
        yield CHANNEL, found[1], f"the name without the channel _{found[2]}"
    if found := _HASH.match(stem):
        yield CHANNEL, found[1], "the name without Roboflow's addition"


def page_number(rest: str) -> int | None:
    """The number of a page, from what a name adds to that of its stack: `_p07`, `-0007_mask`."""
    numbers = []
    for word in words(rest):
        letters = plain(word)
        if word != letters and (not letters or letters in _PAGE_WORDS):
            numbers.append(int(word[len(letters) :]))
        elif letters not in MASK_WORDS and letters not in _PAGE_WORDS:
            return None
    return numbers[0] if len(numbers) == 1 else None


def numbered(stem: str) -> tuple[str, str] | None:
    """A stem's beginning and the number that it ends on."""
    found = _NUMBER_LAST.match(stem)
    return (found[1], found[2]) if found else None


class Labels:
    """Names of labels as they stand in the names of files and folders."""

    def __init__(self, labels: Sequence[str]) -> None:
        squashed = Counter(map(squash, labels))
        self._names = {fold(label): label for label in labels}
        for label in labels:
            key = squash(label)
            if key and squashed[key] == 1:
                self._names.setdefault(key, label)

    def __bool__(self) -> bool:
        return bool(self._names)

    def find(self, text: str) -> str | None:
        """The label that a text names."""
        folded = fold(text)
        return self._names.get(folded) or self._names.get(squash(folded))

    def within(self, rest: str) -> str | None:
        """The label that is named beside marks of a mask, such as in `_cell_mask`."""
        found = self.find(rest.strip(" _-."))
        return found or self.find(" ".join(word for word in words(rest) if not are_marks([word])))

    def before(self, stem: str) -> tuple[str, str] | None:
        """A label that a stem begins with, and what follows: `cell_7` → `cell`, `7`."""
        for key, label in self._names.items():
            rest = stem[len(key) :]
            if stem.startswith(key) and rest[:1] in tuple(" _-."):
                return label, rest.lstrip(" _-.")
        return None
