"""Synthetic nuclei: images with known labels, for demonstrations and tests without real data.

Sizes, shapes, numbers, touching, brightness, background and noise follow the distributions measured on the real images
of the 2018 Data Science Bowl, for fluorescence and for purple histology. They are difficult on purpose: nuclei touch,
dim nuclei lie beside bright ones, the background is uneven, and everything is blurred and noisy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .maps import distance_map
from .nuclei import Sample


@dataclass(frozen=True)
class Population:
    """The nuclei of one kind of image. Medians m with spreads s mean m * exp(s N(0, 1))."""

    diameter: float  # pixels, of a disc of the same area
    diameter_between: float  # spread of the images' typical diameters
    diameter_within: float  # spread inside one image
    elongation: float  # axis ratio - 1
    elongation_spread: float
    count: float  # nuclei per 256 x 256 pixels
    count_spread: float
    most_coverage: float  # the largest fraction of the image that nuclei cover
    clumping: tuple[float, float]  # Beta distribution of the fraction of nuclei that touch another nucleus
    roughness: float  # relative size of the bumps of the outline


POPULATIONS = {
    "fluorescence": Population(22.0, 0.5, 0.3, 0.43, 0.75, 15.5, 0.85, 0.33, (0.8, 5.0), 0.05),
    "histology": Population(20.0, 0.34, 0.33, 0.66, 0.85, 28, 0.75, 0.40, (1.8, 6.0), 0.09),
}
PLACEMENT_TRIES = 12
TURN = 256  # directions in which an outline's radius is tabulated

# Colors of histology as (background, nuclei), RGB medians of real images: lilac sections and washed-out white ones.
STAINS = (
    (np.array([177.0, 156.0, 206.0]), np.array([114.0, 62.0, 193.0])),
    (np.array([205.0, 207.0, 211.0]), np.array([134.0, 80.0, 175.0])),
)
LILAC_SHARE = 0.67


def synthetic_nuclei(rng: np.random.Generator, kind: str = "fluorescence", size: int = 256) -> Sample:
    """An image of nuclei with its labels: a `Sample` of size x size pixels. All randomness comes from `rng`.

    `kind` is "fluorescence" (gray, bright nuclei on dark) or "histology" (purple). Raises `ValueError` for another kind
    or a size below 32.
    """
    if kind not in POPULATIONS:
        raise ValueError(f"synthetic_nuclei: kind {kind!r}; need one of {', '.join(POPULATIONS)}")
    if size < 32:
        raise ValueError(f"synthetic_nuclei: size {size}; need 32 or more pixels")
    labels = _draw_labels(rng, POPULATIONS[kind], size)
    paint = _paint_fluorescence if kind == "fluorescence" else _paint_histology
    image = np.clip(np.rint(paint(rng, labels)), 0, 255).astype(np.uint8)
    return Sample(f"synthetic-{kind}", image, labels, kind, f"synthetic-{kind}")


# ---------------------------------------------------------------- shapes and places


def _around(rng: np.random.Generator, median: float, spread: float) -> float:
    return median * np.exp(spread * rng.standard_normal())


def _draw_labels(rng: np.random.Generator, population: Population, size: int) -> np.ndarray:
    typical = _around(rng, population.diameter, population.diameter_between)
    count = _around(rng, population.count, population.count_spread) * (size / 256) ** 2
    count *= (population.diameter / typical) ** 0.5  # small nuclei lie more densely
    most = population.most_coverage * rng.uniform(0.8, 1.1) * size**2 / (np.pi / 4 * typical**2)
    clumping = rng.beta(*population.clumping)
    direction = rng.uniform(0, np.pi)  # the nuclei of a tissue lie roughly in parallel
    labels = np.zeros((size, size), np.int32)
    placed: list[tuple[np.ndarray, float]] = []  # center and radius
    for _ in range(max(1, round(min(count, most)))):
        diameter = max(_around(rng, typical, population.diameter_within), 5.0)
        outline = _Outline(rng, diameter / 2, population, direction)
        for _ in range(PLACEMENT_TRIES):
            beside = bool(placed) and rng.random() < clumping
            if beside:  # touching a nucleus that is there
                neighbor, its_radius = placed[rng.integers(len(placed))]
                way = rng.uniform(0, 2 * np.pi)
                reach = (its_radius + diameter / 2) * rng.uniform(0.8, 1.0)
                center = neighbor + reach * np.array([np.sin(way), np.cos(way)])
            else:
                center = rng.uniform(0, size, 2)
            if _paint_label(labels, outline, center, len(placed) + 1, touching=beside):
                placed.append((center, diameter / 2))
                break
    return labels


class _Outline:
    """A random nucleus: an ellipse whose radius has a few smooth bumps."""

    def __init__(self, rng: np.random.Generator, radius: float, population: Population, direction: float):
        self.radius = radius
        ratio = 1 + min(_around(rng, population.elongation, population.elongation_spread), 3.5)
        self.stretch = np.sqrt(ratio)
        self.angle = direction + rng.normal(0, 0.6)
        harmonics = np.arange(2, 6)[:, None]
        bumps = population.roughness * rng.standard_normal((4, 1)) / np.sqrt(harmonics - 1)
        angles = np.linspace(0, 2 * np.pi, TURN, endpoint=False)
        waves = bumps * np.cos(harmonics * angles + rng.uniform(0, 2 * np.pi, (4, 1)))
        self.edge = radius * (1 + waves.sum(axis=0))  # the radius in each of TURN directions

    def distance(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The approximate distance of positions, relative to the center, from the outline; negative inside."""
        along = (np.cos(self.angle) * columns + np.sin(self.angle) * rows) / self.stretch
        across = (np.cos(self.angle) * rows - np.sin(self.angle) * columns) * self.stretch
        direction = np.arctan2(across, along) * (TURN / (2 * np.pi))
        return np.hypot(along, across) - self.edge[direction.astype(int)]  # a negative index counts from the end


def _paint_label(labels: np.ndarray, outline: _Outline, center: np.ndarray, number: int, touching: bool) -> bool:
    """Paint a nucleus. Returns False if it does not fit.

    A single nucleus keeps a distance from the others. A touching nucleus may lie partly under its neighbor.
    """
    reach = outline.radius * outline.stretch * 1.3 + 3
    low = np.maximum(np.floor(center - reach), 0).astype(int)
    high = np.minimum(np.ceil(center + reach) + 1, labels.shape).astype(int)
    if (low >= high).any():
        return False
    part = labels[low[0] : high[0], low[1] : high[1]]
    rows, columns = np.ogrid[low[0] : high[0], low[1] : high[1]]
    distance = outline.distance(rows - center[0], columns - center[1])
    inside = distance <= 0
    if touching:
        free = inside & (part == 0)
        if free.sum() < 0.8 * inside.sum():
            return False
        pieces, n = ndimage.label(free)
        if n > 1:  # a neighbor cuts it in two: keep the larger piece
            free = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    else:
        free = inside
        if part[distance <= 2].any():
            return False
    if free.sum() < 12:
        return False
    part[free] = number
    return True


# ---------------------------------------------------------------- light and stain


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Smooth random noise, about `sigma` pixels wide, mean 0 and standard deviation 1, (H, W) float32."""
    step = max(1, int(sigma // 2))  # smooth noise needs few samples
    coarse = rng.standard_normal([-(-n // step) + 4 for n in shape], dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, sigma / step, mode="wrap")
    if step > 1:
        coarse = ndimage.zoom(coarse, step, order=1)
    hills = coarse[: shape[0], : shape[1]]
    return (hills - hills.mean()) / max(hills.std(), 1e-6)


def _per_nucleus(rng: np.random.Generator, labels: np.ndarray, spread: float) -> np.ndarray:
    """An image with a random factor exp(spread N(0, 1)) in each nucleus and 0 outside nuclei."""
    factors = np.exp(spread * rng.standard_normal(labels.max() + 1)).astype(np.float32)
    factors[0] = 0
    return factors[labels]


def _paint_fluorescence(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    shape = labels.shape
    background = rng.choice([3.0, 12.0], p=[0.58, 0.42]) * np.exp(0.3 * rng.standard_normal())
    brightness = max(_around(rng, 53, 0.58) - background, 12.0)
    texture = 0.11 * _smooth_noise(rng, shape, 2.5) + 0.05 * _smooth_noise(rng, shape, 1.0)
    texture *= np.minimum(_per_nucleus(rng, labels, 0.6), 2.2)  # some nuclei are smooth, some coarse
    depth = rng.uniform(0.3, 0.7)
    dome = 1.1 - depth + depth * np.sqrt(distance_map(labels))  # thicker in the middle
    light = brightness * _per_nucleus(rng, labels, abs(rng.normal(0.36, 0.12))) * dome * (1 + texture)

    light = ndimage.gaussian_filter(light, rng.uniform(0.6, 1.5))  # the microscope's blur
    light += rng.uniform(0.04, 0.12) * ndimage.gaussian_filter(light, 10)  # and its halo
    uneven = 1 + rng.uniform(0.05, 0.3) * _smooth_noise(rng, shape, 60) / 2
    light = (light + background) * uneven
    noise = np.sqrt(_around(rng, 0.4, 0.4) ** 2 + _around(rng, 0.02, 0.8) * np.maximum(light, 0))  # read-out, shot
    light = light + noise * rng.standard_normal(shape, dtype=np.float32)
    return np.repeat(light[:, :, None], 3, axis=2)


def _paint_histology(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    shape = labels.shape
    lilac = rng.random() < LILAC_SHARE
    background, nuclei = STAINS[0 if lilac else 1]
    background = background + rng.normal(2, 3) + rng.normal(0, 1.5, 3)
    nuclei = nuclei + rng.normal(-4, 10) + rng.normal(0, 4, 3)

    # The amount of stain: 1 in a typical nucleus, less in the tissue around it, 0 in the empty background.
    tissue = np.maximum(_smooth_noise(rng, shape, rng.uniform(8, 20)) + rng.uniform(-0.8, 0.8), 0)
    fibers = _smooth_noise(rng, shape, 1.5) * np.minimum(tissue, 1)
    stain = rng.uniform(0, 0.3) * tissue + rng.uniform(0.03, 0.09) * fibers
    chromatin = 1 + 0.17 * _smooth_noise(rng, shape, 2.0) * np.minimum(_per_nucleus(rng, labels, 0.4), 2.0)
    rim = 0.82 + 0.18 * np.sqrt(distance_map(labels))
    inside = labels > 0
    stain = np.where(inside, _per_nucleus(rng, labels, 0.2) * chromatin * rim, stain)
    stain = ndimage.gaussian_filter(stain, rng.uniform(0.8, 1.4))[:, :, None]

    image = background + (nuclei - background) * stain
    image += rng.uniform(0, 4) * _smooth_noise(rng, shape, 40)[:, :, None]  # uneven illumination
    grain = ndimage.gaussian_filter(rng.standard_normal((*shape, 3), dtype=np.float32), (0.6, 0.6, 0))
    image += _around(rng, 4.2, 0.3) * grain
    return image
