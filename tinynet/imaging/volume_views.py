"""Drawings of volumes: three planes with outlines, and surfaces that rotate. They are part of `viz`."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..files import atomic_path
from ..training.figures import ORANGE, SKY, mpl
from .checks import check_image

if TYPE_CHECKING:
    from ..training.figures import Axes as Axes
    from ..training.figures import Figure as Figure

PLANES = ("axial", "coronal", "sagittal")  # at one z, one y, one x


def draw_planes(
    axes: Sequence["Axes"],
    image: np.ndarray,
    outlines: Sequence[tuple[np.ndarray, str]] = (),
    center: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    colors: Sequence[tuple[int, int, int]] = (ORANGE, SKY),
) -> None:
    """Draw the axial, the coronal and the sagittal plane of a volume through one voxel, with outlines of its labels.

    axes: three. image: (D, H, W), axes (z, y, x) with z up, as `tinynet.data.Volume`. outlines: (labels (D, H, W), line
    style) pairs; the classes 1, 2, ... have the `colors`. center: the voxel (z, y, x), default the middle. spacing: mm
    (z, y, x), the sides of a voxel.
    """
    center = center or (image.shape[0] // 2, image.shape[1] // 2, image.shape[2] // 2)
    low, high = np.percentile(image, (1, 99.5))
    for axis, (panel, name) in enumerate(zip(axes, PLANES)):
        rows, columns = (step for other, step in enumerate(spacing) if other != axis)
        panel.imshow(
            np.take(image, center[axis], axis), cmap="gray", vmin=low, vmax=high, origin="lower", aspect=rows / columns
        )
        for labels, style in outlines:
            plane = np.take(labels, center[axis], axis)
            for label, color in enumerate(colors, start=1):
                if (plane == label).any():
                    panel.contour(plane == label, [0.5], colors=[mpl(color)], linestyles=style, linewidths=1.3)
        panel.set_title(name, fontsize=10)
        panel.axis("off")


def draw_surfaces(axes: Any, maps: np.ndarray, colors: Sequence[tuple[int, int, int]] = (ORANGE, SKY)) -> None:
    """Draw the surface of each class, where its smoothed probability is one half.

    axes: 3-D axes of Matplotlib. maps: (D, H, W, classes), probabilities; class 0 is background, the others have the
    `colors`. A class that is nowhere probable has no surface.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    for label, color in enumerate(colors, start=1):
        smooth = ndimage.gaussian_filter(maps[..., label], 0.8)
        if smooth.max() > 0.5:
            vertices, faces, _, _ = marching_cubes(smooth, 0.5)
            z, y, x = vertices.T
            axes.plot_trisurf(x, y, z, triangles=faces, color=mpl(color), linewidth=0, antialiased=False)
    organ = np.argwhere(maps[..., 0] < 0.5)
    if len(organ):
        (z0, y0, x0), (z1, y1, x1) = organ.min(axis=0) - 1, organ.max(axis=0) + 1
        axes.set(xlim=(x0, x1), ylim=(y0, y1), zlim=(z0, z1))
        axes.set_box_aspect((x1 - x0, y1 - y0, z1 - z0), zoom=1.0)  # larger, the ends of a long organ would be cut off
    axes.set_axis_off()


def rotation(figure: "Figure", frames: int) -> list[np.ndarray]:
    """The frames of one turn of all 3-D axes of a figure about the vertical: uint8 (H, W, 3) each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, images = FigureCanvasAgg(figure), []
    for turn in range(frames):
        for axes in figure.axes:
            axes.view_init(elev=15, azim=360 * turn / frames)  # type: ignore[attr-defined]
        canvas.draw()
        images.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return images


def save_gif(path: str | os.PathLike, frames: Sequence[np.ndarray], seconds: float = 0.1) -> None:
    """Write uint8 images (H, W, 3) as an animated GIF that repeats. seconds: how long each of them is shown.

    Raises ValueError if there is no image, or for an image of another shape, and TypeError for another dtype.
    """
    if not len(frames):
        raise ValueError("save_gif: frames is empty; at least one image is needed")
    images = [Image.fromarray(check_image("save_gif", frame)) for frame in frames]
    with atomic_path(path) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 * seconds), loop=0
        )
