"""Whether there is a GPU to compute on, and if not, what is missing, in a sentence.

It is asked only when a GPU is wanted, and before CuPy is imported: CuPy without a driver fails at the first array with
the name of an error. The driver itself answers, through ctypes; it comes with the GPU and cannot be installed by pip.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

from ...errors import BackendError, how_to_install
from . import nvrtc

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OLDEST_CUDA, NEWEST_CUDA = 12, 13  # for which tinynet has extras
OLDEST_CAPABILITY = (7, 5)
WITHOUT = "without one, use backend 'cpu', or 'cuda-sim', which runs the CUDA kernels on the CPU"

# Numbers of the driver's API (cuda.h).
NO_DEVICE, STUB_LIBRARY, VERSION_MISMATCH = 100, 34, 803
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


class GpuMissing(BackendError):
    """There is no GPU to compute on; the message says what is missing and what to do about it."""


@dataclass(frozen=True)
class Gpu:
    """name: of the card. capability: (major, minor), e.g. (9, 0) for the H200. cuda: the newest version of CUDA that
    its driver speaks, (major, minor)."""

    name: str
    capability: tuple[int, int]
    cuda: tuple[int, int]

    @property
    def architecture(self) -> int:
        """The capability as the compiler counts, e.g. 90."""
        return 10 * self.capability[0] + self.capability[1]


@functools.cache
def require_gpu() -> Gpu:
    """The GPU to compute on, the first that the driver shows. It and all that is needed beside it are there.

    Raises GpuMissing. The answer is remembered; a refusal is not, and costs about a millisecond.
    """
    gpu = find_gpu()
    find_cupy(gpu.cuda[0])
    try:
        nvrtc.load(gpu.cuda[0])
    except nvrtc.NvrtcMissing as error:
        raise GpuMissing(str(error)) from None
    return gpu


def find_gpu() -> Gpu:
    """The first GPU, by its driver. Raises GpuMissing: no driver, one that does not start or is too old, no GPU."""
    driver = open_driver()
    _call(driver, "cuInit", 0)
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))  # 12040 for 12.4
    cuda = (version.value // 1000, version.value % 1000 // 10)
    if cuda[0] < OLDEST_CUDA:
        raise GpuMissing(
            f"the NVIDIA driver is too old: it speaks CUDA {_text(cuda)}, {OLDEST_CUDA}.0 is needed; update the driver"
        )
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise _no_device()
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    gpu = Gpu(
        name.value.decode(),
        (_attribute(driver, CAPABILITY_MAJOR, device), _attribute(driver, CAPABILITY_MINOR, device)),
        cuda,
    )
    if gpu.capability < OLDEST_CAPABILITY:
        raise GpuMissing(
            f"the GPU {gpu.name} has compute capability {_text(gpu.capability)}; {_text(OLDEST_CAPABILITY)} or later "
            f"is needed (Turing, 2018); {WITHOUT}"
        )
    return gpu


def open_driver() -> Any:
    """The driver's library. Raises GpuMissing where there is none."""
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        raise GpuMissing(
            f"there is no NVIDIA driver ({DRIVER} cannot be loaded): install NVIDIA's driver if this machine has "
            f"one of its GPUs; {WITHOUT}"
        ) from None


def _call(driver: Any, function: str, *arguments: Any) -> None:
    """Call a function of the driver. Raises GpuMissing where it answers with an error."""
    code = getattr(driver, function)(*arguments)
    if code == 0:
        return
    if code == NO_DEVICE:
        raise _no_device()
    if code == STUB_LIBRARY:
        raise GpuMissing(
            f"{DRIVER} is only the stub that programs are linked with, not the driver: "
            "take the folder `stubs` out of LD_LIBRARY_PATH"
        )
    if code == VERSION_MISMATCH:
        raise GpuMissing(
            "the NVIDIA driver was updated, but its old version still runs in the kernel: restart the machine"
        )
    name = ctypes.c_char_p()
    driver.cuGetErrorName(code, ctypes.byref(name))
    raise GpuMissing(
        f"the NVIDIA driver does not start: {function} failed with {(name.value or b'error').decode()} ({code}); "
        "the command nvidia-smi may say more, and restarting the machine may help"
    )


def _no_device() -> GpuMissing:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return GpuMissing(
            f"the environment variable CUDA_VISIBLE_DEVICES is {visible!r}, which hides the GPUs from this program: "
            "unset it, or set it to 0 for the first one"
        )
    return GpuMissing(f"the NVIDIA driver is there, but finds no GPU; {WITHOUT}")


def _attribute(driver: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value


def find_cupy(cuda: int) -> str:
    """The version of CuPy that is installed, which is not imported. cuda: the major version that the driver speaks.

    Raises GpuMissing: none, one that the driver cannot run, or several, which overwrite each other's files.
    """
    install = how_to_install(f"cuda{min(cuda, NEWEST_CUDA)}")
    if importlib.util.find_spec("cupy") is None:
        raise GpuMissing(f"CuPy is not installed; for a driver of CUDA {cuda}: {install}")
    builds = {}
    for major in (11, 12, 13):
        try:
            builds[major] = importlib.metadata.version(f"cupy-cuda{major}x")
        except importlib.metadata.PackageNotFoundError:
            continue
    names = [f"cupy-cuda{major}x" for major in builds]
    if len(builds) > 1:
        raise GpuMissing(f"{' and '.join(names)} are both installed: `pip uninstall {' '.join(names)}`, then {install}")
    for major in builds:
        if not OLDEST_CUDA <= major <= cuda:
            raise GpuMissing(
                f"{names[0]} is installed, but this driver speaks CUDA {cuda} and tinynet needs CUDA {OLDEST_CUDA} "
                f"or later: `pip uninstall {names[0]}`, then {install}"
            )
    # Built from source or by conda, CuPy does not tell its CUDA by its name; it was then chosen for this machine.
    return builds.popitem()[1] if builds else "of an unknown build"


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
