"""Label maps → PNG, COCO, …: one format a file."""

from ml_backend.export import (  # noqa: F401  (each file registers its format)
    coco,
    coco_instances,
    coco_panoptic,
    manifest,
    npz,
    png,
    png_classes,
    png_instances,
    yolo,
)
from ml_backend.export.items import EXPORTERS, Exporter, ExportItem, Report

__all__ = ["EXPORTERS", "ExportItem", "Exporter", "Report"]
