"""The scripts that take --backend, in the emulator and on the stand-in for a GPU: some steps, nothing is learned."""

from __future__ import annotations

import pytest
from op_folders import missing

from tinynet import cusim
from tinynet.tools.bench.examples import load_example

FEW = {  # flags that leave next to nothing to do
    "convnets/data_augmentation.py": ["--steps", "1", "--test", "20", "--per-class", "2", "--batch-size", "4"],
    "convnets/transfer_learning.py": ["--first-steps", "2", "--steps", "2", "--test", "20", "--batch-size", "4"],
    "convnets/handcrafted_features.py": ["--images", "2", "--per-image", "4", "--steps", "1", "--batch-size", "4"],
    "evaluation/ordinal_grading.py": [
        *("--height", "32", "--width", "32", "--epochs", "1", "--samples", "2", "--drawings", "20"),
    ],
    "evaluation/taxonomy.py": ["--size", "32", "--steps", "1", "--batch-size", "2", "--drawings", "10"],
    "evaluation/robustness.py": ["--steps", "2", "--batch-size", "2", "--test", "2"],
    "interpretability/saliency.py": [
        *("--images", "2", "--patch-epochs", "1", "--knees", "2", "--explained", "2", "--cascade", "1"),
    ],
    "uncertainty/mc_dropout.py": [
        *("--epochs", "1", "--crops", "1", "--size", "8", "--drawing", "28", "--passes", "1"),
        *("--knee-size", "8", "--knee-epochs", "1"),
    ],
    "registration/voxelmorph.py": [
        *("--shape", "4", "6", "4", "--width", "1", "--epochs", "1", "--pairs", "1"),
        *("--window", "3", "--direct-steps", "1"),
    ],
    "detection/landmarks.py": [
        *("--steps", "1", "--batch-size", "1", "--crops", "1", "--crop", "16", "--shift", "3", "--channels", "1"),
    ],
    "volumes/patches_2_5d.py": [
        *("--steps", "1", "--batch-size", "2", "--each", "1", "--channels", "1", "--size", "5", "--reach", "2"),
    ],
    "unsupervised/autoencoder.py": ["--digits", "100", "--epochs", "1", "--hidden", "8", "--code", "4"],
    "unsupervised/stacked_autoencoder.py": [
        *("--digits", "100", "--hidden", "8", "--code", "4", "--epochs", "1", "--greedy-epochs", "1"),
    ],
    "unsupervised/dbn.py": [
        *("--digits", "1400", "--hidden", "8", "--rbm-epochs", "1", "--epochs", "1", "--few-steps", "1"),
    ],
    "unsupervised/rbm.py": ["--digits", "100", "--hidden", "4", "--small", "2", "--epochs", "1", "--betas", "2"],
    "interpretability/soft_tree.py": [
        *("--digits", "8", "--few", "4", "--test", "8", "--depth", "2", "--steps", "2", "--teacher-steps", "2"),
        *("--batch-size", "4"),
    ],
    "segmentation/fcn_vessels.py": [
        *("--epochs", "1", "--patches", "4", "--crops", "1", "--size", "8", "--drawing", "28"),
    ],
    "segmentation/fine_tune_nuclei.py": ["--images", "1"],
    "segmentation/class_imbalance.py": ["--steps", "1", "--batch-size", "1", "--size", "32", "--drawings", "2"],
    "unsupervised/features_compared.py": [
        *("--each", "20", "--cell", "1", "--widths", "4", "--greedy-epochs", "1", "--epochs", "1"),
    ],
    "detection/rpn_blood_cells.py": ["--epochs", "1", "--images", "1", "--drawing", "32"],
    "registration/affine_regression.py": ["--steps", "1", "--batch-size", "2", "--test", "2", "--search-steps", "3"],
    "registration/learned_similarity.py": [
        *("--steps", "1", "--batch-size", "2", "--starts", "2", "--search-steps", "1"),
    ],
    "volumes/cascade.py": ["--thinning", "4", "--volumes", "2", "--epochs", "1"],
    "volumes/vnet_hippocampus.py": ["--thinning", "4", "--volumes", "2", "--epochs", "1", "--frames", "1"],
    "sequences/rnn_vanishing_gradient.py": ["--steps", "1", "--length", "51", "--hidden", "4"],
}


# One script each for images, landmarks, sequences and vectors. The quick tests run most of the others on the CPU alone.
QUICK = {
    "convnets/transfer_learning.py",
    "detection/landmarks.py",
    "sequences/rnn_vanishing_gradient.py",
    "unsupervised/autoencoder.py",
}


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("path", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in FEW])
@pytest.mark.parametrize("backend", [pytest.param("cuda-sim", marks=pytest.mark.slow), "cuda"])
def test_it_runs_there(path, backend, tmp_path, monkeypatch, fake_gpu):
    """On a GPU no array may meet one that is not there: the stand-in is as strict as CuPy, and runs the emulator."""
    pytest.importorskip("sklearn", reason="the digits in MNIST's place are in scikit-learn, extra 'examples'")
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    emulated, launch = [], cusim.launch
    monkeypatch.setattr(cusim, "launch", lambda *a, **k: emulated.append(1) or launch(*a, **k))
    load_example(path).main(["--quick", "--backend", backend, "--out", str(tmp_path), *FEW[path]])
    assert bool(fake_gpu.launches) == (backend == "cuda")
    assert emulated, "the emulator runs the kernels in both"
