"""Where an array lies, and how it gets to the other device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arrays import device_of


def common_device(op: str, arrays: Mapping[str, Any]) -> str:
    """The device of all these arrays. Raises ValueError, with their names, if some are on the CPU and some on a GPU."""
    places = {name: device_of(array) for name, array in arrays.items()}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name} is on the {'GPU' if place == 'cuda' else 'CPU'}" for name, place in places.items())
        raise ValueError(f"{op}: {listed}; all must be in one place: move the others with .to('cuda')")
    return next(iter(places.values()), "cpu")


def to_device(array: Any, device: str) -> Any:
    """The array on `device`, or the same array if it is there already.

    Raises ValueError for an unknown device, BackendError (with what to install) if a GPU is asked for and something is
    missing, and MemoryError if the GPU's memory is full.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"there is no device {device!r}; the devices are 'cpu' and 'cuda'")
    if device_of(array) == device:
        return array
    if device == "cuda":
        from .cuda.detect import require_gpu

        require_gpu()  # before the import of CuPy, whose message without a driver is only the name of an error
    from .cuda import gpu

    return gpu.from_cpu(array) if device == "cuda" else gpu.to_cpu(array)
