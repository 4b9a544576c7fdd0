"""Make `nuclei_split.csv`: which images of the Data Science Bowl train and which validate.

    python -m tinynet.data.make_split stage1_train.zip

Many images are neighboring crops of one microscope field, and many fields come from one experiment. A split that
ignores this puts half a field into training and the other half into validation, and then measures memory. So images are
joined into groups first, and whole groups are drawn:

1. *field*: images whose edges continue in one another are crops of one field (a jigsaw puzzle, solved by its edges);
2. *group*: fields of one kind and one size that look alike (gray levels, colors, sharpness), by average linkage;
3. of each kind, groups are drawn in a seeded order until a fifth of its images is validation.

The program was run once, before any training. Its result is committed, because another version of SciPy may change the
groups, and a split must not change.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from tinynet.data.nuclei import KINDS, SPLIT_TABLE, Sample, read_nuclei
from tinynet.imaging.intensity import gray

SEED = 2018
VALIDATION_SHARE = 0.20
SAME_LOOK = 0.8  # fields closer than this in `appearance` (about log2 units) are one group; chosen by eye


def edge_links(grays: list[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs (i, j) of equally large gray images where j continues i to the right or downwards.

    The last column of i and the first of j were neighbors in the field, so they correlate almost perfectly and have the
    same level. Each must be the other's best partner, because smooth backgrounds resemble many. Edges without structure
    (standard deviation of one gray level or less) prove nothing and are ignored.
    """
    links = []
    for end, start in ((np.s_[:, -1], np.s_[:, 0]), (np.s_[-1, :], np.s_[0, :])):
        ends = np.array([g[end] for g in grays])
        starts = np.array([g[start] for g in grays])
        end_waves = ends - ends.mean(axis=1, keepdims=True)
        start_waves = starts - starts.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(end_waves, axis=1)[:, None] * np.linalg.norm(start_waves, axis=1)
        correlation = end_waves @ start_waves.T / (lengths + 1e-6)
        np.fill_diagonal(correlation, -1)
        difference = np.abs(ends[:, None] - starts).mean(axis=2)
        spread = end_waves.std(axis=1)[:, None]
        best = (correlation == correlation.max(axis=1, keepdims=True)) & (correlation == correlation.max(axis=0))
        linked = best & (correlation > 0.93) & (difference < 0.35 * spread + 1) & (spread > 1)
        links += [(int(i), int(j)) for i, j in zip(*np.nonzero(linked), strict=True)]
    return links


def appearance(image: np.ndarray) -> np.ndarray:
    """A vector that describes how an image looks: (H, W, 3) uint8 to (23,).

    Levels of each channel (six percentiles, log2) and the contrast of the gray image in five bands of sharpness
    (log2 of the standard deviation of differences of Gaussians).
    """
    from scipy.ndimage import gaussian_filter

    levels = np.percentile(image.reshape(-1, 3), [5, 25, 50, 75, 95, 99.5], axis=0)
    levels = np.log2(levels + 4).ravel() / np.sqrt(3)  # three channels, mostly equal, count once
    blurred = [gray(image)]
    blurred += [gaussian_filter(blurred[0], sigma) for sigma in (1, 2, 4, 8, 16)]
    bands = [np.log2((fine - coarse).std() + 0.1) for fine, coarse in itertools.pairwise(blurred)]
    return np.concatenate([levels, bands])


def group_samples(samples: list[Sample]) -> list[str]:
    """The group's name for every sample: `<kind>-<number>`, number 1 the largest group."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    alike = defaultdict(list)  # only images of one kind and size can be of one field or one experiment
    for index, sample in enumerate(samples):
        alike[sample.kind, sample.image.shape].append(index)
    clusters: dict[int, tuple] = {}
    for key, members in alike.items():
        links = edge_links([gray(samples[m].image) for m in members])
        rows, columns = np.array(links, int).reshape(-1, 2).T
        graph = coo_matrix((np.ones(len(rows)), (rows, columns)), (len(members), len(members)))
        n_fields, field = connected_components(graph, directed=False)
        looks = np.array([appearance(samples[m].image) for m in members])
        field_looks = np.array([looks[field == f].mean(axis=0) for f in range(n_fields)])
        field_cluster = np.zeros(1, int)
        if n_fields > 1:
            field_cluster = fcluster(linkage(field_looks, "average"), SAME_LOOK, "distance")
        for member, f in zip(members, field, strict=True):
            clusters[member] = (*key, int(field_cluster[f]))
    sizes = Counter(clusters.values())
    names = {}
    for kind in KINDS:
        of_kind = [c for c in sizes if c[0] == kind]
        for number, cluster in enumerate(sorted(of_kind, key=lambda c: (-sizes[c], c)), start=1):
            names[cluster] = f"{kind}-{number:02d}"
    return [names[clusters[i]] for i in range(len(samples))]


def choose_validation(kinds: list[str], groups: list[str], seed: int = SEED) -> set[str]:
    """The validation groups: of each kind, in seeded order, until its quota of images is filled.

    A group may fill at most 0.4 of the quota (but four images are always allowed), so that validation has at least
    three looks. The quota is exceeded by a quarter at most.
    """
    rng = np.random.default_rng(seed)
    chosen = set()
    for kind in KINDS:
        sizes = Counter(g for g, k in zip(groups, kinds, strict=True) if k == kind)
        quota = VALIDATION_SHARE * sizes.total()
        taken = 0
        for name in rng.permutation(sorted(sizes)):
            size = sizes[name]
            if taken < 0.95 * quota and size <= max(0.4 * quota, 4) and taken + size <= 1.25 * quota:
                chosen.add(str(name))
                taken += size
    return chosen


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make nuclei_split.csv: which images train and which validate.")
    parser.add_argument("zip", type=Path, help="stage1_train.zip, or the folder it unpacks to")
    parser.add_argument("--out", type=Path, default=SPLIT_TABLE, help="the table to write")
    args = parser.parse_args(argv)

    samples = read_nuclei(args.zip)
    kinds = [sample.kind for sample in samples]
    groups = group_samples(samples)
    validation = choose_validation(kinds, groups)
    with args.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "kind", "group", "split"])
        for sample, group in zip(samples, groups, strict=True):
            writer.writerow([sample.id, sample.kind, group, "validation" if group in validation else "train"])
    for kind in KINDS:
        of_kind = [g for g, k in zip(groups, kinds, strict=True) if k == kind]
        held_out = sum(g in validation for g in of_kind)
        sizes = sorted(Counter(g for g in of_kind if g in validation).values(), reverse=True)
        print(f"{kind}: {len(of_kind)} images in {len(set(of_kind))} groups; {held_out} validate, in groups of {sizes}")


if __name__ == "__main__":
    main()
