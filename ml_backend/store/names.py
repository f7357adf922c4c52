"""Names that every file system, format and browser takes, made once of those that people have."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

PART_BYTES = 180
"""Of a part between slashes: leaves room for what exports append within a file system's 255."""

_CUT_BYTES = 140
_FILE = "file:"

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\\:<>"|?*]')
_NO_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def safe_names(names: Iterable[str]) -> list[str]:
    """Give each of several distinct names one that is safe; no two are alike.

    Names that are safe stay as they are. Where others would become one that is taken, or differ
    from another only in how their accents are composed, they get a short hash of their own.
    """
    given = list(names)
    plain = [safe_name(name) for name in given]
    counts = Counter(_composed(name) for name in plain)
    return [
        safe if counts[_composed(safe)] == 1 or name == _composed(safe) else marked_name(safe, name)
        for name, safe in zip(given, plain, strict=True)
    ]


def safe_name(name: str) -> str:
    """Give a relative path with `/` between folders that can be a path and a key anywhere.

    Bytes that are no UTF-8 (surrogates) are read as Latin-1; odd spaces become spaces; backslashes,
    control characters and what Windows forbids become `_`; invisible characters go; parts over
    `PART_BYTES` are cut and get a hash. Repeating it changes nothing.
    """
    return "/".join(_safe_part(part) for part in name.split("/"))


def original_text(name: str) -> str:
    """Write a file's own name as one plain line: as it is, or as a `file:` URL.

    The latter where it is not UTF-8, holds control characters, or begins like one.
    """
    if _NO_LINE.search(name) or name.startswith(_FILE):
        return _FILE + quote(os.fsencode(name))
    return name


def original_name(text: str) -> str:
    """Give the name that `original_text` wrote."""
    if text.startswith(_FILE):
        return os.fsdecode(unquote_to_bytes(text.removeprefix(_FILE)))
    return text


def page_name(name: str, page: int, pages: int) -> str:
    """Name a page of a stack, counted from 0: `a/stack_p07.tif` of `a/stack.tif`."""
    folder, slash, last = name.rpartition("/")
    stem, ending = _split_ending(last)
    number = str(page + 1).zfill(len(str(pages)))
    return f"{folder}{slash}{stem}_p{number}{ending}"


def marked_name(safe: str, original: str) -> str:
    """Tell a name from another that is alike by a short hash of what it was made from."""
    folder, slash, last = safe.rpartition("/")
    stem, ending = _split_ending(last)
    return f"{folder}{slash}{stem}-{_hash(original)}{ending}"


def _safe_part(part: str) -> str:
    text = "".join(_safe_letter(letter) for letter in _SURROGATES.sub(_latin_1, part))
    text = _FORBIDDEN.sub("_", text).strip(" ")
    if text.startswith("."):
        text = "_" + text[1:]
    if text.endswith("."):
        text = text[:-1] + "_"
    if not text or _RESERVED.match(text):
        text = f"_{text}"
    return text if len(text.encode()) <= PART_BYTES else _shorten(text, part)


def _latin_1(found: re.Match[str]) -> str:
    byte = ord(found[0]) - 0xDC00
    return chr(byte) if 0xA0 <= byte <= 0xFF else "_"


def _safe_letter(letter: str) -> str:
    if letter == " " or letter.isprintable():
        return letter
    category = unicodedata.category(letter)
    if category in {"Zs", "Zl", "Zp"}:
        return " "
    return "" if category == "Cf" else "_"


def _shorten(text: str, original: str) -> str:
    stem, ending = _split_ending(text)
    mark = f"-{_hash(original)}"
    room = _CUT_BYTES - len((mark + ending).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(" .") + mark + ending


def _split_ending(name: str) -> tuple[str, str]:
    """Divide a name before its ending, of which `.ome.tif` is one."""
    found = re.search(r"(?<=.)(\.ome)?\.[A-Za-z0-9]{1,10}$", name, re.IGNORECASE)
    return (name[: found.start()], found[0]) if found else (name, "")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
