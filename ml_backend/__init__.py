"""Brushloop: a Label Studio ML backend for segmentation that learns from the people who use it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("brushloop")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
