"""Fit the logistic regression of `imaging.certainty`, and print its constants.

    python -m tinynet.nuclei.fit_certainty stage1_train.zip

The net cuts training images into pieces. A piece is a nucleus if it overlaps an outlined one by an IoU above one half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from tqdm import tqdm

from ..data import Sample, read_nuclei, split
from ..imaging import segment
from ..imaging.certainty import evidence
from ..imaging.intensity import normalize
from .net import Net, load_net

FROM_A_GROUP = 3  # images: those of one group look alike
FEW = 5  # an image with fewer nuclei counts as much as one with so many


def some_of_each_group(samples: Sequence[Sample]) -> list[Sample]:
    """At most `FROM_A_GROUP` samples of each group, drawn at random."""
    chosen: dict[str, list[Sample]] = {}
    for i in np.random.default_rng(0).permutation(len(samples)):
        chosen.setdefault(samples[i].group, []).append(samples[i])
    return [sample for group in chosen.values() for sample in group[:FROM_A_GROUP]]


def pieces_of(net: Net, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """(evidence of each piece that the net finds, (n, 3); whether it is a nucleus, bool (n,))."""
    assert sample.labels is not None  # it is a training image
    maps = segment.predict_maps(net, normalize(sample.image), segment.estimate_scale(net, sample.image))
    pieces = segment.pieces_from_maps(maps)
    true = segment.resize_labels(sample.labels, pieces.shape)
    return evidence(pieces, maps), are_nuclei(pieces, true)


def are_nuclei(pieces: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Whether pieces 1, 2, ... overlap a nucleus of `true` by an IoU above one half: bool (largest piece,)."""
    count = int(pieces.max()) + 1
    shared = np.bincount((true.astype(np.int64) * count + pieces).ravel(), minlength=(int(true.max()) + 1) * count)
    shared = shared.reshape(-1, count)
    either = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0) - shared
    return (2 * shared > either)[1:, 1:].any(axis=0)  # row and column 0 are the background


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weights, and last the bias, of the logistic regression of y, bool (n,), on x (n, k): (k + 1,)."""
    x = np.column_stack([x, np.ones(len(x))])
    sign = np.where(y, -1.0, 1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = sign * (x @ w)
        return weight @ np.logaddexp(0, z), (weight * sign / (1 + np.exp(-z))) @ x

    return minimize(loss, np.zeros(x.shape[1]), jac=True).x


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Fit how certain the net is of each nucleus.")
    parser.add_argument("zip", type=Path, help="stage1_train.zip, or the folder it unpacks to")
    parser.add_argument("--weights", help="weights with three outputs; default: those that come with tinynet")
    arguments = parser.parse_args(argv)
    net = load_net(arguments.weights)
    training, _ = split(read_nuclei(arguments.zip))
    found = [pieces_of(net, sample) for sample in tqdm(some_of_each_group(training), "images", disable=None)]
    weight = np.concatenate([np.full(len(y), 1 / max(FEW, int(y.sum()))) for _, y in found])
    x, y = (np.concatenate(parts) for parts in zip(*found))
    *weights, bias = fit(x, y, weight)
    print(f"{len(y):,} pieces, {np.count_nonzero(y):,} of them nuclei")
    print(f"WEIGHTS = ({', '.join(f'{w:.2f}' for w in weights)})\nBIAS = {bias:.2f}")


if __name__ == "__main__":
    main()
