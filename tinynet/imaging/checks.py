"""Checks of images and label images. Each error names the function, the argument, its value and what is needed."""

import numpy as np


def check_labels(function: str, name: str, labels: np.ndarray) -> np.ndarray:
    """Return `labels` as an array after checking that it is a label image.

    function, name: the caller and its argument, for the message. Raises TypeError for a dtype that is not an integer,
    ValueError for a wrong number of dimensions, an image without pixels or a negative number.
    """
    labels = np.asarray(labels)
    if labels.dtype == bool:
        raise TypeError(f"{function}: {name} is a mask (bool), a label image (integers) is needed")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{function}: {name} has dtype {labels.dtype}, a label image needs integers")
    if labels.ndim != 2:
        raise ValueError(f"{function}: {name} has shape {labels.shape}, a label image is (H, W)")
    if labels.size == 0:
        raise ValueError(f"{function}: {name} has shape {labels.shape}, which holds no pixels")
    if labels.min() < 0:
        raise ValueError(f"{function}: {name} holds {labels.min()}, labels are 0 (background) or more")
    return labels


def check_same_shape(function: str, true: np.ndarray, pred: np.ndarray) -> None:
    """Raise ValueError unless the two images have the same shape."""
    if true.shape != pred.shape:
        raise ValueError(f"{function}: pred has shape {pred.shape}, true has {true.shape}; they must be the same image")


def check_image(function: str, image: np.ndarray) -> np.ndarray:
    """Return `image` as an array after checking that it is uint8 (H, W, 3) with at least one pixel."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"{function}: image has dtype {image.dtype}, uint8 is needed")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"{function}: image has shape {image.shape}, (H, W, 3) with at least one pixel is needed")
    return image


def check_maps(function: str, name: str, maps: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    """Return `maps` as an array after checking that it is finite, (H, W, C) with pixels, C one of `channels`."""
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.shape[2] not in channels or maps.size == 0:
        need = f"(H, W, {' or '.join(map(str, channels))}) with at least one pixel"
        raise ValueError(f"{function}: {name} has shape {maps.shape}, {need} is needed")
    if not np.isfinite(maps).all():
        raise ValueError(f"{function}: {name} holds values that are not finite")
    return maps


def check_same_size(function: str, labels: np.ndarray, image: np.ndarray) -> None:
    """Raise ValueError unless labels (H, W) and image (H, W, 3) have the same height and width."""
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"{function}: labels have shape {labels.shape}, image {image.shape}; they must be the same image"
        )
