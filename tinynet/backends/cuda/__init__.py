"""CUDA kernels: reading a `.cu` file, refusing wrong arguments, running it on a GPU or on the CPU emulator.

source.py   a `.cu` file: its text with the shared headers in front, its kernels and their C signatures
launch.py   the one way to run a kernel: checks the arguments against the signature, picks GPU or emulator
detect.py   whether there is a GPU, and if not, what is missing, in a sentence
nvrtc.py    NVIDIA's run-time compiler, through ctypes
gpu.py      the GPU: compiled kernels, launched through CuPy

The emulator is `tinynet/cusim`. Importing this package imports none of them, nor CuPy.
"""
