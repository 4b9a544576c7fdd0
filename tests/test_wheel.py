"""tinynet from a wheel, installed outside of the checkout: what README.md shows runs in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from op_folders import missing
from processes import ROOT
from prose import blocks

import tinynet as tn
from tinynet.learn.exercises.exercise import exercise

pytestmark = pytest.mark.slow


class Installed:
    """A virtual environment with the wheel, which borrows numpy and others from the environment of the tests."""

    def __init__(self, folder: Path) -> None:
        self.source, self.folder = folder / "source", folder / "work"
        self.folder.mkdir()
        unwanted = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "out", "*.egg-info")
        copytree(ROOT, self.source, ignore=ignore_patterns(*unwanted))  # a build leaves files behind
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        call(*pip, "wheel", str(self.source), "--no-deps", "-w", str(folder))
        call(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
        scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self.python, self.tinynet = (
            scripts / (f"{name}.exe" if os.name == "nt" else name) for name in ("python", "tinynet")
        )
        (wheel,) = folder.glob("*.whl")
        call(*pip, "--python", str(self.python), "install", "--no-deps", str(wheel))
        self.packages = Path(
            call(str(self.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        )
        (self.packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment.setdefault("TINYNET_CACHE", str(folder / "cache"))
        self.environment["TINYNET_DATA"] = str(folder / "no_data")

    def run(self, *words: str, code: int = 0) -> str:
        """What `python WORDS` prints in the working folder, where nothing of the checkout can be found."""
        return self.start([str(self.python), *words], code)

    def start(self, command: list[str], code: int = 0) -> str:
        """What any command prints there."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def files(self) -> set[Path]:
        """The files of all packages, without the byte code that Python keeps beside them."""
        return {file for file in self.packages.rglob("*") if file.is_file() and file.suffix != ".pyc"}


def call(*command: str, folder: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The installation. Afterwards: no command has written a file beside the package."""
    download = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "setuptools", "-d")
    if subprocess.run([*download, str(tmp_path_factory.mktemp("download"))], capture_output=True).returncode:
        pytest.skip("pip cannot download setuptools, which builds the wheel")
    installed = Installed(tmp_path_factory.mktemp("wheel"))
    before = installed.files()
    yield installed
    assert installed.files() == before


def test_the_package_is_the_installed_one(installed):
    found = installed.run("-c", "import tinynet; print(tinynet.__file__)")
    assert Path(found.strip()).is_relative_to(installed.packages)
    assert installed.run("-m", "tinynet", "--version") == f"tinynet {tn.__version__}\n"


def test_the_python_of_the_readme(installed):
    for block in blocks(ROOT / "README.md"):
        if block.language == "python" and not (block.needs and missing("cuda-sim")):
            with open(installed.folder / "readme.py", "a", encoding="utf-8") as file:
                file.write(block.text)
    assert "multiply-adds" in installed.run("readme.py")


def test_scripts_run_by_name(installed):
    assert "logistic_regression" in installed.run("-m", "tinynet", "examples")
    printed = installed.run("-m", "tinynet", "examples", "linear_regression", "--quick")
    assert "next: python -m tinynet run logistic_regression\n" in printed
    printed = installed.run("-m", "tinynet", "run", "logistic_regression", "--quick", "--out", "here")
    assert "next: python -m tinynet run softmax_regression\n" in printed and list((installed.folder / "here").iterdir())
    assert "no table is written" in installed.run("-m", "tinynet", "examples", "linear_regression", "--table")
    assert "--seeds" in installed.run("-m", "tinynet", "run", "lenet_mnist", "--help")
    installed.run("-m", "tinynet", "run", "no_such_script", code=2)


def test_nuclei_are_found(installed):
    image = tn.data.synthetic_nuclei(np.random.default_rng(0), size=64).image
    (installed.folder / "my_folder").mkdir()
    tn.viz.save_png(installed.folder / "my_folder/a.png", np.asarray(image))
    command = [str(installed.tinynet), "nuclei", "predict", "my_folder"]
    assert "1 image, " in installed.start(command)
    wanted = {"labels", "overlays", "rois", "geojson", "measurements.csv", "summary.html"}
    assert wanted <= {path.name for path in (installed.folder / "my_folder_nuclei").iterdir()}
    (installed.folder / "my_folder/b.png").write_bytes(b"")
    assert "done before" in installed.start(command, code=1), "a broken file"
    assert f"usage: {installed.tinynet} nuclei" in installed.start([*command[:2], "--help"])
    for flags in (["--out", "a_nuclei", "my_folder/a.png"], ["--images", "my_folder/a.png", "--out", "found"]):
        installed.run("-m", "tinynet", "run", "unet_nuclei", "predict", "--no-flips", *flags)
    installed.run("-m", "tinynet", "page", "--image", "my_folder/a.png", "--out", "cells.html")
    assert "<html" in (installed.folder / "cells.html").read_text(encoding="utf-8")
    assert {page.name for page in (ROOT / "docs/pages").glob("*.html")} <= {
        page.name for page in (installed.packages / "tinynet/pages").iterdir()
    }


def test_exercises(installed):
    assert "next: ad-01" in installed.run("-m", "tinynet", "exercises")
    installed.run("-m", "tinynet", "exercises", "start", "conv-05")
    installed.run("-m", "tinynet", "exercises", "check", "conv-05", code=2)  # not written yet
    (installed.folder / "my_exercises/conv-05.py").write_text(exercise("conv-05").solution, encoding="utf-8")
    assert "conv-05: right" in installed.run("-m", "tinynet", "exercises", "check", "conv-05")
    assert "backward_input was called" in installed.run("-m", "tinynet", "exercises", "use", "conv-05")


def test_operations(installed):
    assert "conv2d" in installed.run("-m", "tinynet", "op")
    printed = installed.run("-m", "tinynet", "op", "accumulate")
    assert str(installed.packages / "tinynet/ops/accumulate") in printed, "it says where its kernels can be edited"
    assert "all" in installed.run("-m", "tinynet", "gradcheck", "accumulate")
    assert list(Path(installed.environment["TINYNET_CACHE"]).rglob("*.nbc")), "compiled kernels are kept"
    for command in (("bench",), ("bench", "unet"), ("bench", "profile"), ("cusim",), ("cuda",)):
        assert "usage" in installed.run("-m", "tinynet", *command, "--help")


def test_an_edited_kernel_runs(installed):
    """Kernels of an installed package can be edited as those of a checkout."""
    file = installed.packages / "tinynet/ops/accumulate/cpu.py"
    before = file.read_text(encoding="utf-8")
    code = "import numpy as np\nimport tinynet.ops\nfrom tinynet.backends.registry import implementation_kernel\n"
    code += "x = np.ones((1, 64, 64, 4), 'f4')\nprint(implementation_kernel('accumulate', 'add', 'cpu')(x, x).max())"
    assert installed.run("-c", code) == "2.0\n"
    assert before.count("+") >= 1
    try:
        file.write_text(before.replace(" + ", " - "), encoding="utf-8")
        assert installed.run("-c", code) == "0.0\n"
    finally:
        file.write_text(before, encoding="utf-8")


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
def test_the_emulator(installed):
    assert "global" in installed.run("-m", "tinynet", "cusim", "report", "accumulate")


def test_the_source_distribution_holds_the_repository(installed):
    pytest.importorskip("setuptools", reason="setuptools packs the files")
    call(sys.executable, "setup.py", "-q", "sdist", folder=installed.source)
    (file,) = (installed.source / "dist").glob("*.tar.gz")
    with tarfile.open(file) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not {name for name in wanted if not name.startswith(".")} - held
