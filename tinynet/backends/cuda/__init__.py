"""CUDA kernels on a GPU.

source.py   a `.cu` file: its text with the shared headers in front, its kernels and their C signatures
detect.py   whether there is a GPU, and if not, what is missing, in a sentence
nvrtc.py    NVIDIA's run-time compiler, through ctypes
gpu.py      the GPU: compiled kernels, launched through CuPy

`tinynet/backends/launch.py` runs a kernel here or on the emulator, `tinynet/backends/cusim`. Importing this package
imports none of these modules, nor CuPy.
"""


def is_available() -> bool:
    """True if there is a GPU, and all that is needed to compute on it."""
    from .detect import GpuMissing, require_gpu

    try:
        return bool(require_gpu())
    except GpuMissing:
        return False
