"""A quick run of every script of examples/ without any data files: that it learns, and says what it does."""

from __future__ import annotations

import numpy as np
import pytest
from op_folders import missing
from PIL import Image
from test_examples_backends import FEW

from tinynet.data import data_path
from tinynet.errors import DataError, UsageError
from tinynet.tools.bench.examples import load_example
from tinynet.tools.examples import examples_folder, find_examples

LEAKS = {"selection": 0.7, "patients": 0.85, "best_of_many": 0.6, "training_set": 1.0}  # -> the least accuracy with it
KAPPAS = {
    **{"winnipeg": 0.2079, "winnipeg_linear": 0.3797, "winnipeg_quadratic": 0.5246},
    **{"new_orleans": 0.2965, "new_orleans_linear": 0.4773, "new_orleans_quadratic": 0.6256},
}
LEARNS = {  # script -> whether its metrics show that it learns
    "basics/activations.py": lambda m: (
        m["kept_sigmoid"] < 1e-8
        and all(0.001 < m[f"kept_{name}"] < 100 for name in ("tanh", "relu", "leaky_relu", "maxout", "elu"))
    ),
    "basics/cpu_vs_gpu.py": lambda m: m["loss_difference"] < 1e-4 and m["step_ms_cpu"] > 0 and m["speedup_cpu"] > 0,
    "basics/linear_regression.py": lambda m: (
        m["difference"] < 1e-6 and abs(m["slope"] - 10.2331) < 1e-4 and abs(m["r2"] - 0.3439) < 1e-4
    ),
    "basics/logistic_regression.py": lambda m: m["auc"] > 0.98 and m["accuracy"] > 0.94,
    "basics/mlp.py": lambda m: (
        m["xor_errors"] == 0 and m["wdbc_accuracy"] > 0.94 and m["moons_gap_large"] > m["moons_gap_small"]
    ),
    "basics/perceptron.py": lambda m: (
        m["and_errors"] == m["or_errors"] == 0 < m["xor_errors"] and m["wdbc_accuracy"] > 0.9
    ),
    "basics/softmax_regression.py": lambda m: m["digits_accuracy"] > 0.92,
    "basics/train_and_test.py": lambda m: (
        m["test_accuracy"] > 0.85
        and all(m[f"leak_{way}"] >= least and 0.38 < m[f"honest_{way}"] < 0.62 for way, least in LEAKS.items())
    ),
    "evaluation/roc_and_kappa.py": lambda m: {name: m[name] for name in KAPPAS} == KAPPAS,
    "evaluation/ordinal_grading.py": lambda m: m["cumulative_kappa"] > 0.4 and m["ridge_on_pixels_kappa"] > 0.8,
    "evaluation/taxonomy.py": lambda m: m["training_classes"] == 34 and m["digits_100_coarse"] > 0.75,
    "evaluation/robustness.py": lambda m: m["digits_upright"] > 0.3 and m["digits_quarter_turn"] < m["digits_upright"],
    "interpretability/saliency.py": lambda m: (  # after some steps on drawings, maps mean nothing yet
        m["nuclei_gradient_inside"] > m["nuclei_area"] > m["shortcut_gradient_inside"]
        and m["knees_guided_last_random"] > 0.9 > m["knees_gradient_last_random"]
    ),
    "convnets/alexnet.py": lambda m: (
        m["parameters_as_published"] == 60_965_224 and m["auc"] > 0.8 and 0 <= m["sensitivity_at_95"] <= 1
    ),
    "convnets/convolution_by_hand.py": lambda m: (
        m["moving_average_error"] < 1e-12
        and m["pool_difference"] == 0
        and max(m["conv_difference"], m["transposed_difference"]) < 1e-5
        and m["adjoint_difference"] < 1e-10
    ),
    "convnets/data_augmentation.py": lambda m: (
        m["accuracy_none"] > 0.5 and m["gain_of_flip"] == m["accuracy_flip"] - m["accuracy_none"]
    ),
    "convnets/handcrafted_features.py": lambda m: m["nuclei_hog_auc"] > 0.8,
    "convnets/lenet_mnist.py": lambda m: m["accuracy"] > 0.8 and m["parameters"] == 61_706,
    "convnets/transfer_learning.py": lambda m: m["digits_fine_tuned"] > 0.35,  # from ten images; guessing gives 0.2
    "convnets/deep_features_svm.py": lambda m: min(m["visual_auc"], m["lenet_auc"], m["imagenet_auc"]) > 0.8,
    "convnets/imagenet_transfer.py": lambda m: (  # from 50 drawings; nothing is learned without the weights
        m.get("photographs_known") is None
        or (m["photographs_known"] == 5 and m["knees_auc_fixed_extractor"] > 0.75 < m["chest_auc_fixed_extractor"])
    ),
    "convnets/inception.py": lambda m: min(m["knees_all_tuned"], m["chest_all_tuned"]) > 0.8,
    "evaluation/label_quality.py": lambda m: (
        m["plain_symmetric_0"] > 0.7 and m["robust_pairwise_20"] > 0.5 and 0.5 < m["dice_observers"] < 1
    ),
    "uncertainty/mc_dropout.py": lambda m: (
        m["accuracy_entropy_all"] > 0.6 and m["accuracy_entropy"] > 0.7 and 0 < m["ece_passes_temperature"] < 0.5
    ),
    "interpretability/adversarial.py": lambda m: (
        m["plain_pgd"] <= m["plain_fgsm"] < m["plain_noise"] - 0.3
        and m["plain_gray"] == 0
        and 0 <= m["knee_pgd"] <= m["knee_accuracy"] <= 1
    ),
    "interpretability/soft_tree.py": lambda m: min(m["teacher"], m["alone"], m["distilled"]) > 0.5,
    "segmentation/fcn_vessels.py": lambda m: (
        m["difference"] < 1e-5 and m["speedup"] > 3 and m["auc_patch"] > 0.8 and 0.8 < m["dice_observer"] <= 1
    ),
    "segmentation/class_imbalance.py": lambda m: (  # cross-entropy needs the prior first, hard negatives do not
        m["ap_hard_negatives"] > 0.8 and m["ap_cross_entropy"] < 0.7 < m["ap_cross_entropy_prior"]
    ),
    "segmentation/fine_tune_nuclei.py": lambda m: all(0 <= m[name] <= 1 for name in m),  # one step teaches nothing
    "detection/rpn_blood_cells.py": lambda m: m["recall_100"] > 0.6 and m["mean_ap"] > 0.15 and m["rules_white"] > 0.5,
    "registration/voxelmorph.py": lambda m: (
        min(m[f"{part}_net"] - m[f"{part}_before"] for part in ("anterior", "posterior")) > 0.02
        and m["anterior_direct"] > 0.75
        and max(m["folded_net"], m["folded_direct"]) < 0.01
    ),
    "registration/affine_regression.py": lambda m: (
        m["t1_error_net"] < 0.9 * m["error_none"] and 0 <= m["gm_hits_ssd"] <= 1 and m["times_faster"] > 0
    ),
    "registration/learned_similarity.py": lambda m: (  # the landmarks of the synthetic slices are exact
        m["error_best_affine"] < 1e-6 < m["error_ncc"] < 0.5 * m["error_before"] and 0 <= m["auc_late"] <= 1
    ),
    "sequences/lstm_ecg.py": lambda m: (  # in the synthetic heart a premature beat is always early
        m["auc"] > 0.8 and m["auc_interval"] > 0.99 and m["surprise_premature"] > m["surprise_normal"]
    ),
    "sequences/rnn_vanishing_gradient.py": lambda m: (
        m["kept_rnn_small"] < 1e-9 < m["kept_lstm"] < m["kept_rnn_large"] and m["mse_lstm"] < 0.4
    ),
    "detection/landmarks.py": lambda m: (  # some steps on drawings: one of the nets is better than the mean position
        max(m["soft_argmax_anterior"], m["soft_argmax_posterior"]) < 0.75 * m["mean_in_crop_mm"]
        and 0 <= m["presence_accuracy"] <= 1
    ),
    "volumes/patches_2_5d.py": lambda m: all(  # guessing gives a third
        m[f"{name}_accuracy"] > 0.45 for name in ("one_plane", "three_planes", "two_scales", "3_D_patch")
    ),
    "unsupervised/autoencoder.py": lambda m: (  # the average digit has an error of 53, a small one of 23
        m["error"] < 0.5 * m["error_2"] < 23
        and m["error_pca"] < m["error_2_pca"]
        and m["retrieval"] > 0.75
        and m["anomaly"] > 0.8
    ),
    "unsupervised/dbn.py": lambda m: (
        m["pretrained"] > 0.7
        and m["random"] > 0.7
        and all(m[f"gain_{n}"] == m[f"pretrained_{n}"] - m[f"random_{n}"] for n in (100, 1000))
    ),
    "unsupervised/features_compared.py": lambda m: (
        m["dice_handcrafted"] > 0.75 and m["dice_handcrafted_place"] > m["dice_atlas"] and m["dice_autoencoder"] > 0.6
    ),
    "unsupervised/rbm.py": lambda m: (  # 64 hidden units do better than 6
        m["annealing_off"] < 0.5
        and m["annealed_cd"] > m["exact_cd"]
        and m["pseudo_pcd"] > -180
        and m["pcd_gain"] == m["exact_pcd"] - m["exact_cd"]
    ),
    "unsupervised/stacked_autoencoder.py": lambda m: m["error"] < 0.85 * min(m["error_greedy"], m["error_random"]),
    "volumes/cascade.py": lambda m: m["voxels_cascade"] < 1.2 and m["dice_one_stage"] > 0.15,
    "volumes/vnet_hippocampus.py": lambda m: m["vnet_anterior"] > 0.2 and m["vnet_posterior"] > 0.15,
}
SAYS = {  # script -> what it prints if its data are missing
    "basics/softmax_regression.py": "without the skin diseases: tables/dermatology.data was not found",
    "convnets/alexnet.py": "drawings, because chest_xray/chest_xray.zip was not found",
    "convnets/data_augmentation.py": "a synthetic one, because dsb2018/stage1_train.zip was not found",
    "evaluation/ordinal_grading.py": "drawings in place of knee X-rays (100 + 50 + 50), asked for",
    "evaluation/label_quality.py": "drawings in place of knee X-rays (70 + 10 + 20), asked for",
    "uncertainty/mc_dropout.py": "synthetic drawings",
    "evaluation/taxonomy.py": "a small invented tree, because tables/HumanDO.tsv was not found",
    "convnets/handcrafted_features.py": "without the ultrasound images: medmnist/breastmnist.npz was not found",
    "convnets/deep_features_svm.py": "drawings in place of chest X-rays (40 + 30)",
    "convnets/imagenet_transfer.py": "drawings in place of knee X-rays (50 + 20 + 50), asked for",
    "convnets/inception.py": "drawings in place of knee X-rays (160 + 50 + 50)",
    "convnets/lenet_mnist.py": "scikit-learn's small digits",
    "evaluation/robustness.py": "drawings in place of chest X-rays (100 + 40), asked for",
    "interpretability/saliency.py": "drawings in place of knee X-rays (20 + 1 + 10), asked for",
    "detection/landmarks.py": "synthetic volumes (24 + 8 held out)",
    "volumes/patches_2_5d.py": "synthetic volumes (24 + 8 held out)",
    "convnets/transfer_learning.py": "without medicine: chest_xray/chest_xray.zip was not found",
    "registration/learned_similarity.py": "synthetic, because histology_landmarks/lung-lesion_3 was not found",
    "interpretability/adversarial.py": "drawings in place of knee X-rays (100 + 50 + 50), asked for",
    "interpretability/soft_tree.py": "scikit-learn's small digits",
    "segmentation/fcn_vessels.py": "synthetic drawings",
    "segmentation/class_imbalance.py": "synthetic nuclei",
    "segmentation/fine_tune_nuclei.py": "drawings in place of blood smears",
    "unsupervised/features_compared.py": "synthetic volumes (12 + 4 held out)",
    "detection/rpn_blood_cells.py": "synthetic drawings",
    "registration/voxelmorph.py": "deformed copies of one drawing, in place of synthetic volumes",
    "sequences/lstm_ecg.py": "synthetic electrocardiogram",
    "volumes/cascade.py": "synthetic volumes (30 + 2 held out)",
    "volumes/vnet_hippocampus.py": "synthetic volumes (40 + 2 held out)",
}
FEWER = {  # script whose quick run takes several seconds -> flags that leave next to nothing to do
    **FEW,
    "convnets/alexnet.py": ["--epochs", "1", "--images", "12"],
    "convnets/deep_features_svm.py": ["--words", "2", "--lenet-steps", "2"],
    "convnets/imagenet_transfer.py": ["--knee-size", "32", "--photograph-size", "32"],
    "convnets/inception.py": ["--steps", "2"],
    "convnets/lenet_mnist.py": ["--epochs", "1", "--images", "100"],
    "evaluation/label_quality.py": [
        *("--shares", "1", "--digits", "100", "--epochs", "1", "--knee-size", "16", "--knee-epochs", "1"),
        *("--crops", "1", "--size", "32"),
    ],
    "interpretability/adversarial.py": [
        *("--digits", "100", "--epochs", "1", "--robust-epochs", "1", "--steps", "1", "--test", "10"),
        *("--knees", "4", "--size", "32", "--test-knees", "1"),
    ],
    "sequences/lstm_ecg.py": ["--epochs", "1", "--crops", "16", "--hidden", "4"],
}
# Scripts that take long with next to nothing to do, and whose functions have tests of their own.
STILL_LONG = {
    "convnets/deep_features_svm.py",
    "convnets/inception.py",
    "evaluation/ordinal_grading.py",
    "evaluation/robustness.py",
}
WITH_DATA = {  # script -> whether its metrics show that it learns from its real data
    "basics/softmax_regression.py": lambda m: m["dermatology_accuracy"] > 0.92,
    "evaluation/roc_and_kappa.py": lambda m: (
        m["auc"] > 0.87 and m["kappa_quadratic"] > 0.6 and m.get("difference_to_scikit_learn", 0) < 1e-12
    ),
    **{path: learns for path, learns in LEARNS.items() if path.startswith("unsupervised/")},
}


@pytest.fixture
def without_data(tmp_path, monkeypatch):
    """Nothing is found but the data that packages bring with them."""
    pytest.importorskip("sklearn", reason="the tables and small digits are in scikit-learn, extra 'examples'")
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    monkeypatch.delenv("TINYNET_DATA", raising=False)


def run_quickly(path, out, *arguments):
    """The metrics of a quick run, all finite; its figures are images."""
    script = load_example(path)
    metrics = script.main(["--quick", "--out", str(out), *arguments])
    assert all(
        np.isfinite(value) for name, value in metrics.items() if name != "auc_ventricular"
    )  # none in some records
    figures = list(out.glob("*.png"))
    assert figures and all(min(Image.open(figure).size) > 200 for figure in figures)
    return metrics


def test_every_script_has_its_quick_run():
    scripts = {example.path for example in find_examples(examples_folder())}
    assert scripts == {*LEARNS, "segmentation/unet_nuclei.py"}, "the U-Net has tests of its own"
    assert FEWER.keys() >= STILL_LONG


@pytest.mark.parametrize("path", [pytest.param(p, marks=pytest.mark.slow) if p in FEWER else p for p in LEARNS])
def test_a_quick_run_learns(path, tmp_path, without_data, capsys):
    metrics = run_quickly(path, tmp_path)
    assert LEARNS[path](metrics), metrics
    printed = capsys.readouterr().out
    assert SAYS.get(path, "") in printed and f"next: {load_example(path).NEXT}\n" in printed
    if path not in SAYS and path != "evaluation/roc_and_kappa.py":
        assert set(load_example(path).EXPECTED) <= set(metrics)


@pytest.mark.parametrize("path", [pytest.param(p, marks=pytest.mark.slow) if p in STILL_LONG else p for p in FEWER])
def test_a_few_steps_go_through(path, tmp_path, without_data, capsys):
    """All that the script computes, draws and prints. Nothing is learned, so its metrics say nothing."""
    load_example(path).main(["--quick", "--out", str(tmp_path), *FEWER[path]])
    assert list(tmp_path.glob("*.png"))
    assert f"next: {load_example(path).NEXT}\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_DATA)
def test_a_quick_run_with_data_learns(path, tmp_path):
    script = load_example(path)
    if not all(data_path(name) for name in script.FILES):
        pytest.skip(f"{', '.join(script.FILES)} are neither in TINYNET_DATA nor in the cache")
    metrics = run_quickly(path, tmp_path)
    assert WITH_DATA[path](metrics) and set(script.EXPECTED) <= set(metrics), metrics
    assert (tmp_path / script.PICTURE).exists()


@pytest.mark.parametrize(
    ("path", "flag", "least"),
    [
        ("convnets/inception.py", "--steps", 2),
        ("convnets/deep_features_svm.py", "--words", 1),
        ("segmentation/class_imbalance.py", "--per-image", 1),
        ("segmentation/fcn_vessels.py", "--size", 8),
        ("segmentation/fcn_vessels.py", "--patches", 1),
        ("volumes/vnet_hippocampus.py", "--frames", 1),
        ("volumes/vnet_hippocampus.py", "--volumes", 2),
        ("volumes/cascade.py", "--volumes", 1),
        ("unsupervised/features_compared.py", "--each", 1),
        ("volumes/patches_2_5d.py", "--channels", 1),
        ("detection/landmarks.py", "--crops", 1),
        ("detection/rpn_blood_cells.py", "--images", 1),
        ("segmentation/fine_tune_nuclei.py", "--images", 1),
        ("registration/affine_regression.py", "--search-steps", 3),
        ("registration/learned_similarity.py", "--search-steps", 1),
        ("registration/voxelmorph.py", "--pairs", 1),
    ],
)
def test_a_number_that_is_too_small_is_refused_with_its_flag(path, flag, least, tmp_path):
    with pytest.raises(UsageError, match=f"^{flag} is {least - 1}; at least {least} is needed"):
        run_quickly(path, tmp_path, flag, str(least - 1))


@pytest.mark.parametrize("path", ["basics/softmax_regression.py", "sequences/lstm_ecg.py"])
def test_data_that_the_user_names_must_exist(path, tmp_path):
    pytest.importorskip("sklearn", reason="the tables are in scikit-learn, extra 'examples'")
    with pytest.raises(DataError, match="no such file"):
        run_quickly(path, tmp_path, "--data", str(tmp_path / "none"))


@pytest.mark.slow
@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
def test_cpu_vs_gpu_with_a_gpu(tmp_path, fake_gpu):
    metrics = run_quickly("basics/cpu_vs_gpu.py", tmp_path, "--size", "16")
    assert fake_gpu.launches and metrics["step_ms_cuda"] > 0 and metrics["loss_difference"] < 1e-4
