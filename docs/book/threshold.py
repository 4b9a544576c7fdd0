"""Write the data of docs/pages/threshold.html: an image of nuclei, its mask, and what the shipped U-Net predicts.

    python docs/book/threshold.py        # needs the Data Science Bowl's images (CC0): see TINYNET_DATA in the README

The image is one of the validation images that the net finds difficult: some nuclei are dim and out of focus.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np

import tinynet as tn

PAGE = Path(__file__).resolve().parents[1] / "pages/threshold.html"
NUCLEI, IMAGE, SIDE = "dsb2018/stage1_train.zip", "1400420310", 128


def crop() -> dict[str, np.ndarray]:
    """The middle of the image: uint8 image (S, S, 3), mask (S, S), 0 or 1, and probability (S, S), 0 to 255."""
    (name,) = [name for name in tn.data.validation_ids() if name.startswith(IMAGE)]
    (sample,) = tn.data.read_nuclei(tn.data.find_data(NUCLEI), [name])
    net = tn.nuclei.load_net()
    size = sample.image.shape[:2]
    maps = tn.segment.predict_maps(net, tn.data.normalize(sample.image), tn.segment.estimate_scale(net, sample.image))
    probability = tn.segment.resize(maps[:, :, :1].astype(np.float32), size)[:, :, 0]
    middle = tn.segment.middle_of(size, SIDE)
    bytes_of = np.clip(np.rint(255 * probability), 0, 255).astype(np.uint8)
    return {
        "image": sample.image[middle],
        "mask": (sample.labels[middle] > 0).astype(np.uint8),
        "probability": bytes_of[middle],
    }


def main() -> None:
    data = {name: base64.b64encode(np.ascontiguousarray(array)).decode() for name, array in crop().items()}
    line = f'<script type="application/json" id="data">{json.dumps(data)}</script>'
    text = PAGE.read_text(encoding="utf-8")
    pattern = r'<script type="application/json" id="data">.*?</script>'
    PAGE.write_text(re.sub(pattern, lambda _: line, text, count=1), encoding="utf-8")
    print(f"{PAGE}: {PAGE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
