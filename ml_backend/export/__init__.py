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
from ml_backend.export.formats import EXPORTERS, Exporter
from ml_backend.export.items import ExportItem, Planned, Report
from ml_backend.export.writing import write, write_items

__all__ = ["EXPORTERS", "ExportItem", "Exporter", "Planned", "Report", "write", "write_items"]
