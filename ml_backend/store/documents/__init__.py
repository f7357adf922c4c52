"""Masks that stand in documents rather than pixels: COCO, LabelMe, YOLO polygons, Cellpose.

    files = list_files(address, suffixes=SUFFIXES | {...})
    entries = open_documents(files, summary)          # image name as the document writes it → entry
    reading = entries["a.png"].read((height, width), ["nucleus", "cell"])
    reading.mask, reading.objects, reading.notes      # label map, numbers or None, what to tell

`open_documents` looks at every `.json`, `.txt` and `.npy` of a list of files; those that are none
of the four are noted in the summary as passed over, with the reason. The names are keys for
pairing: COCO and LabelMe write the name of the image (`scans/a.tif`; backslashes, `./` and `../`
are gone); a YOLO file is called like its image (`labels/a.txt`) and so is a Cellpose file
(`a.npy` for `a_seg.npy`), so that only what stands before the last dot counts of these two.
Where two documents write the same name, the names begin with the documents' folders.
"""

from ml_backend.store.documents.entry import MaskDocument
from ml_backend.store.documents.opening import SUFFIXES, open_documents
from ml_backend.store.mask_reading import MaskReading

__all__ = ["SUFFIXES", "MaskDocument", "MaskReading", "open_documents"]
