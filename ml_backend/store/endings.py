"""Endings of image files: those that are read, and what to do about those that are not."""

from importlib.util import find_spec
from pathlib import PurePosixPath

MICROSCOPES = frozenset(
    {".czi", ".nd2", ".lif", ".oib", ".oif", ".vsi", ".ims", ".dv", ".sldy", ".ets", ".lof",
     ".xlif", ".r3d", ".zvi"}
)  # fmt: skip
"""Microscopes' own formats: read where the extra `bioio` and a reader of the format are there."""

READ = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf", ".tf2", ".tf8",
     ".lsm", ".svs", ".ndpi", ".scn", ".bmp", ".dib", ".gif", ".webp", ".avif", ".jp2", ".j2k",
     ".jpx", ".jpf", ".jpc", ".j2c", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga",
     ".qoi", ".pcx", ".sgi", ".jxl"}
)  # fmt: skip

SUFFIXES = READ | (MICROSCOPES if find_spec("bioio") is not None else frozenset())
"""Endings of files that are read, in lower case."""

_EXPORT = "open it in Fiji and save it as TIFF"
_VOLUME = "save its slices as one multi-page TIFF"
_PHOTO = "convert it to PNG or TIFF"
_OTHERS = {
    _VOLUME: ".dcm .dicom .nii .nii.gz .mha .mhd .nrrd .nhdr .mrc .mrcs .rec .map .st .ali .em "
    ".zarr .n5 .h5 .hdf5 .hdf .ilastik .mat .npz",
    _EXPORT: ".dm3 .dm4 .ser .emd .spe .stk .ipl .fits .fit .bif .mrxs .qptiff .vms .vmu .isyntax",
    _PHOTO: ".heic .heif .hif .psd .xcf .svg .pdf .eps .exr .hdr .ico .dds .wmf .emf .dng .cr2 "
    ".cr3 .nef .arw .orf .rw2 .raf",
    "save its frames as TIFF": ".avi .mp4 .mov .mkv .mpg .webm",
    "unpack it": ".zip .tar .gz .tgz .7z .rar .bz2 .xz",
}
WAYS_OUT = {ending: out for out, endings in _OTHERS.items() for ending in endings.split()}
"""Endings of images and archives that are not read, and what to do; `way_out` knows all."""


def way_out(name: str) -> str | None:
    """Say what to do about a file of this name that is not read; None if it is no image at all.

    A file inside a folder that is an image itself (`a.zarr/0/0.0`) counts as that folder.
    """
    for part in PurePosixPath(name.lower()).parts:
        suffixes = PurePosixPath(part).suffixes
        for ending in ("".join(suffixes[-2:]), *suffixes[-1:]):
            if ending in MICROSCOPES:
                return (
                    f"{ending} files are read with the extra brushloop[bioio] and its reader, such "
                    f"as bioio-bioformats; or {_EXPORT}"
                )
            if ending in WAYS_OUT:
                return f"{ending} files are not read; {WAYS_OUT[ending]}"
    return None
