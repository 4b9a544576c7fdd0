"""Tables of scores: one row for each image, their means, as text and as CSV."""

import csv
import os
from collections.abc import Mapping, Sequence

import numpy as np

from ...files import table_file
from .label_images import dice, instance_precision, iou, match_counts

SCORES = ("mean_ap", "ap50", "dice", "iou")


def evaluate_instances(samples: Sequence, predictions: Sequence[np.ndarray], method: str = "prediction") -> list[dict]:
    """Score one method's label images against the true label images: one row for each image.

    samples: objects with `.id`, `.kind` and `.labels` (H, W). predictions: label images in the same order.
    Returns dicts with id, kind, method, true_nuclei, pred_nuclei, mean_ap, ap50, dice, iou. Join the rows of several
    methods with `+` for `score_table`. Raises ValueError with the id of the sample that cannot be scored.
    """
    if len(samples) != len(predictions):
        raise ValueError(f"evaluate_instances: {len(predictions)} predictions for {len(samples)} samples")
    rows = []
    for sample, pred in zip(samples, predictions, strict=True):
        if sample.labels is None:
            raise ValueError(f"evaluate_instances: sample {sample.id} has no labels to compare with")
        try:
            tp, fp, fn = match_counts(sample.labels, pred)
        except (TypeError, ValueError) as error:
            raise type(error)(f"evaluate_instances: sample {sample.id}: {error}") from error
        precision = instance_precision(tp, fp, fn)
        rows.append(
            {
                "id": sample.id,
                "kind": sample.kind,
                "method": method,
                "true_nuclei": int(tp[0] + fn[0]),
                "pred_nuclei": int(tp[0] + fp[0]),
                "mean_ap": float(precision.mean()),
                "ap50": float(precision[0]),
                "dice": dice(sample.labels, pred),
                "iou": iou(sample.labels, pred),
            }
        )
    return rows


def score_table(rows: Sequence[Mapping]) -> list[dict]:
    """Average per-image rows into one row per kind of image and method, and one over all kinds.

    rows: from `evaluate_instances`, of one or more methods. Every score is the plain mean over images, so a large image
    has the same weight as a small one. Kinds and methods keep the order of their first appearance; `all` comes last.
    Returns dicts with kind, method, images, mean_ap, ap50, dice, iou. Raises ValueError if there are no rows.
    """
    if not rows:
        raise ValueError("score_table: rows is empty, at least one scored image is needed")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = []
    for kind in [*dict.fromkeys(row["kind"] for row in rows), "all"]:
        for method in methods:
            group = [row for row in rows if row["method"] == method and kind in (row["kind"], "all")]
            if group:
                means = {score: float(np.mean([row[score] for row in group])) for score in SCORES}
                table.append({"kind": kind, "method": method, "images": len(group), **means})
    return table


def format_table(table: Sequence[Mapping]) -> str:
    """Rows with the same keys as aligned text columns: words left-aligned, numbers right-aligned."""
    columns = list(table[0])
    cells = [columns] + [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in table]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    is_word = [isinstance(table[0][column], str) for column in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(line, widths, is_word, strict=True)
        ).rstrip()
        for line in cells
    )


def write_rows(path: str | os.PathLike, rows: Sequence[Mapping]) -> None:
    """Write rows with the same keys (a score table, per-image rows) as CSV. An older file is replaced in one step."""
    if not rows:
        raise ValueError(f"write_rows: rows is empty, there is nothing to write to {path}")
    with table_file(path) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
