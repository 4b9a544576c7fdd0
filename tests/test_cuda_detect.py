"""Whether there is a GPU: a sentence for each thing that may be missing, and no question before a GPU is wanted."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from processes import python

import tinynet as tn
from tinynet.backends.cuda import detect, nvrtc
from tinynet.backends.cuda.detect import GpuMissing, require_gpu


class Driver:
    """Answers as the library of NVIDIA's driver does, for one GPU."""

    def __init__(self, version=12040, devices=1, name=b"Example 4000", capability=(8, 9), fails=(), code=999):
        self.version, self.devices, self.name, self.capability = version, devices, name, capability
        self.fails, self.code = fails, code

    def __getattr__(self, function):
        def call(*arguments):
            if function in self.fails:
                return self.code
            getattr(self, f"_{function}")(*arguments)
            return 0

        return call

    def _cuInit(self, flags):
        assert flags == 0

    def _cuDriverGetVersion(self, version):
        version._obj.value = self.version

    def _cuDeviceGetCount(self, count):
        count._obj.value = self.devices

    def _cuDeviceGet(self, device, index):
        assert index == 0

    def _cuDeviceGetName(self, name, length, device):
        assert len(self.name) < length
        name.value = self.name

    def _cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.capability[attribute - 75]

    def _cuGetErrorName(self, code, name):
        name._obj.value = b"CUDA_ERROR_UNKNOWN"


@pytest.fixture
def machine(monkeypatch):
    """A machine with everything; what it is given instead, or None for what it lacks."""

    def make(driver=None, cupy=("12",), compilers=("12.9",), visible=None):
        driver = driver or Driver()
        monkeypatch.setattr(ctypes, "CDLL", lambda name: _library(driver, name))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "cupy" and cupy else None)
        monkeypatch.setattr(importlib.metadata, "version", lambda name: _version(cupy, name))
        monkeypatch.setattr(nvrtc, "_libraries", lambda: iter(compilers))
        monkeypatch.setattr(nvrtc, "Nvrtc", lambda path: SimpleNamespace(version=tuple(map(int, path.split(".")))))
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    require_gpu.cache_clear()
    nvrtc.load.cache_clear()
    yield make
    require_gpu.cache_clear()
    nvrtc.load.cache_clear()


def _library(driver, name):
    assert name == detect.DRIVER
    if driver == "none":
        raise OSError("cannot open shared object file")
    return driver


def _version(builds, name):
    if name not in [f"cupy-cuda{major}x" for major in builds]:
        raise importlib.metadata.PackageNotFoundError(name)
    return "14.2.0"


def test_a_machine_with_everything(machine):
    machine()
    gpu = require_gpu()
    assert (gpu.name, gpu.capability, gpu.cuda, gpu.architecture) == ("Example 4000", (8, 9), (12, 4), 89)


@pytest.mark.parametrize(
    "driver_version, cupy, compilers",
    [(13000, ("13",), ("13.1",)), (13000, ("12",), ("12.9",)), (12000, ("12",), ("13.0", "12.9"))],
)
def test_older_cuda_runs_on_a_newer_driver(machine, driver_version, cupy, compilers):
    machine(Driver(version=driver_version), cupy, compilers)
    assert require_gpu().cuda[0] == driver_version // 1000
    assert nvrtc.load(driver_version // 1000).version[0] <= driver_version // 1000


def test_of_several_compilers_the_newest_that_the_driver_runs_is_taken(machine):
    machine(compilers=("12.4", "12.9", "13.0"))
    assert nvrtc.load(12).version == (12, 9)
    assert nvrtc.load().version == (13, 0)


def test_cupy_that_does_not_name_its_cuda_is_believed(machine):
    machine(cupy=("from source",))
    assert require_gpu().name == "Example 4000"


MISSING = {
    "no driver": (dict(driver="none"), r"there is no NVIDIA driver .* install NVIDIA's driver .* 'cuda-sim'"),
    "no GPU": (dict(driver=Driver(fails=("cuInit",), code=100)), r"finds no GPU; .* backend 'cpu'"),
    "a GPU that was taken out": (dict(driver=Driver(devices=0)), r"finds no GPU"),
    "hidden GPUs": (
        dict(driver=Driver(fails=("cuInit",), code=100), visible=""),
        r"CUDA_VISIBLE_DEVICES is '', which hides the GPUs from this program: unset it",
    ),
    "hidden by a number": (dict(driver=Driver(devices=0), visible="-1"), r"CUDA_VISIBLE_DEVICES is '-1'"),
    "a stub": (dict(driver=Driver(fails=("cuInit",), code=34)), r"only the stub .* LD_LIBRARY_PATH"),
    "an update under way": (dict(driver=Driver(fails=("cuInit",), code=803)), r"restart the machine"),
    "a broken driver": (dict(driver=Driver(fails=("cuInit",))), r"cuInit failed with CUDA_ERROR_UNKNOWN \(999\)"),
    "an old driver": (dict(driver=Driver(version=11080)), r"it speaks CUDA 11.8, 12.0 is needed; update the driver"),
    "an old GPU": (dict(driver=Driver(capability=(7, 0))), r"Example 4000 has compute capability 7.0; 7.5 or later"),
    "no CuPy": (dict(cupy=()), r'CuPy is not installed.* `pip install -e "\.\[cuda12\]"`'),
    "no CuPy, new driver": (dict(driver=Driver(version=13000), cupy=()), r'pip install -e "\.\[cuda13\]"'),
    "CuPy too new": (dict(cupy=("13",)), r"cupy-cuda13x is installed, but .* CUDA 12 .* `pip uninstall cupy-cuda13x`"),
    "CuPy too old": (dict(cupy=("11",)), r"cupy-cuda11x is installed, .* `pip uninstall cupy-cuda11x`, then `pip in"),
    "two CuPys": (dict(cupy=("12", "13")), r"cupy-cuda12x and cupy-cuda13x are both installed"),
    "no compiler": (dict(compilers=()), r'\(NVRTC\) is not installed .* `pip install -e "\.\[cuda12\]"`'),
    "a compiler too new": (dict(compilers=("13.0",)), r"\(NVRTC\) is not installed in a version for CUDA 12"),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_a_sentence(machine, name):
    settings, message = MISSING[name]
    machine(**settings)
    with pytest.raises(GpuMissing, match=message):
        require_gpu()


@pytest.mark.parametrize("wanted", ["backend", "tensor", "model"])
def test_who_wants_a_gpu_is_told_before_cupy_is_imported(machine, monkeypatch, wanted):
    machine(driver="none")
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import raises ImportError
    with pytest.raises(GpuMissing, match="there is no NVIDIA driver"):
        if wanted == "backend":
            with tn.use_backend("cuda"):
                pass
        elif wanted == "tensor":
            tn.tensor(np.ones(3)).to("cuda")
        else:
            tn.nn.Linear(2, 3).to("cuda")


def test_the_gpu_is_asked_once_and_a_refusal_is_not_remembered(machine, monkeypatch):
    machine(driver="none")
    with pytest.raises(GpuMissing):
        require_gpu()
    machine()
    gpu = require_gpu()
    machine(driver="none")
    assert require_gpu() is gpu


def test_the_driver_is_not_asked_before_a_gpu_is_wanted():
    """The driver would be started, and CuPy takes its time."""
    code = """
import sys
import tinynet as tn
from tinynet import nn
with tn.use_backend("reference"):
    tn.sum(nn.Linear(2, 3)(tn.tensor([[1.0, 2.0]]))).backward()
print([name for name in ("cupy", "tinynet.backends.cuda.detect", "tinynet.backends.cuda.gpu") if name in sys.modules])
"""
    assert python(code) == "[]"


def test_status_says_what_is_there_and_what_is_missing(machine, capsys):
    from tinynet.tools.cuda_command import main

    machine(driver="none")
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  GPU        missing: there is no NVIDIA driver") for line in lines)
    assert "  CuPy       14.2.0" in lines and "  NVRTC      12.9" in lines
    machine()
    main(["status"])
    assert "  GPU        Example 4000, compute capability 8.9, driver for CUDA 12" in capsys.readouterr().out
