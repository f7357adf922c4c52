"""The smallest things Label Studio takes: a labeling config, an image, a brush region."""

import io
from typing import Any

from PIL import Image

LABEL_CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="brush" toName="image">
    <Label value="cell" background="#ff0000"/><Label value="other" background="#00ff00"/>
  </BrushLabels>
</View>"""


def png(side: int = 8, grey: int = 0) -> bytes:
    """A grey PNG of `side`² pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def region(label: str = "cell") -> dict[str, Any]:
    """A brush region of a 2x2 image with its first pixel set."""
    rle = [0, 0, 0, 16, 57, 27, 252, 127, 246, 192, 0]
    return {
        "id": f"region-{label}",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "original_width": 2,
        "original_height": 2,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [label]},
    }
