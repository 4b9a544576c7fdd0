"""The exact parts of examples/convnets/inception.py."""

import numpy as np
import pytest
from op_folders import missing
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet import nn
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("convnets/inception.py")


def test_products_of_the_first_block_of_the_paper(script):
    """Table 1, row "inception (3a)": 28 x 28 x 256, 128 million operations."""
    counts = script.products(script.Inception(192, script.BLOCK_3A), 28, 28)
    pixels = 28 * 28
    assert counts["ones"] == pixels * 192 * 64 and counts["pooled"] == pixels * 192 * 32
    assert counts["threes"] == pixels * (192 * 96 + 9 * 96 * 128)
    assert counts["fives"] == pixels * (192 * 16 + 25 * 16 * 32)
    assert round(sum(counts.values()) / 1e6) == 128 and script.BLOCK_3A.out == 256
    naive = script.NaiveInception(192, script.BLOCK_3A)
    assert sum(script.products(naive, 28, 28).values()) == pixels * (192 * 64 + 9 * 192 * 128 + 25 * 192 * 32)
    assert nn.predict(naive.eval(), np.zeros((1, 4, 4, 192), np.float32)).shape == (1, 4, 4, 64 + 128 + 32 + 192)


def test_gradient_of_a_block(script):
    tn.seed(0)
    rng = np.random.default_rng(0)
    block = script.Inception(2, script.Widths(1, 2, 2, 1, 2, 1))
    x = rng.standard_normal((2, 5, 4, 2))
    values = rng.normal(size=sum(p.size for p in block.parameters()))
    tn.gradcheck(as_function_of_a_vector(block), [x, values], mode="directions")


@pytest.mark.parametrize("frozen", [None, 0, 1, 3, 5])
def test_trained_parts_begin_with_the_weights_of_the_first_task(script, frozen):
    tn.seed(0)
    source = script.small_inception(5)
    before = source.state_dict()
    tail = script.swapped(source, frozen)
    front = source[: frozen or 0].eval()
    assert len(front) + len(tail) == 6 and tail[-1][-1].weight.shape == (128, 2)
    if frozen != 5:  # block 4 is trained
        same = [np.array_equal(a, b) for a, b in zip(source[4].state_dict().values(), tail[-2].state_dict().values())]
        assert all(same) == (frozen is not None)

    images = np.random.default_rng(0).random((4, 16, 16, 1), dtype=np.float32)
    config = script.Config(batch_size=4)
    script.transfer.fit(tail, nn.predict(front, images), np.array([0, 1, 0, 1]), 2, config, seed=0)
    assert all(np.array_equal(value, before[name]) for name, value in source.state_dict().items())


def test_grades_become_yes_or_no_and_sizes_are_bounded(script):
    knees, _ = tn.data.synthetic_knees(5, np.random.default_rng(0), 16)
    assert script.yes_or_no(knees).labels.tolist() == [0, 0, 1, 1, 1]
    moved, grade = script.moved(tn.data.synthetic_knees(5, np.random.default_rng(0), script.SIZE)[0]).item(
        4, np.random.default_rng(0)
    )
    assert moved.shape == (script.SIZE, script.SIZE, 1) and grade == 4
    with pytest.raises(ValueError, match=r"--sizes is 3; it must lie in 1 \.\. 2"):
        script.Config(sizes=3)


@pytest.mark.slow
@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("backend", ["cuda-sim", "cuda"])
def test_it_runs_there(script, backend, tmp_path, monkeypatch, fake_gpu):
    """On smaller and fewer drawings than a quick run has, because the emulator is slow."""
    drawn = {"knees": tn.data.synthetic_knees, "chests": tn.data.synthetic_chest_xrays}
    few = {
        name: {part: draw(10, np.random.default_rng(0), 16) for part in ("train", "val", "test")}
        for name, draw in drawn.items()
    }
    monkeypatch.setattr(script, "knees_or_synthetic", lambda *_, **__: (few["knees"], "drawings"))
    monkeypatch.setattr(script, "chest_xrays_or_synthetic", lambda *_, **__: (few["chests"], "drawings"))
    for name, value in (("SIZE", 16), ("DEPTHS", (None, 0, 5))):
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "draw_depth", lambda *_: tn.viz.new_figure(2, 2))
    flags = ["--epochs", "1", "--batch-size", "4", "--steps", "2"]
    metrics = script.main(["--quick", "--backend", backend, "--out", str(tmp_path), *flags])
    assert all(np.isfinite(value) for value in metrics.values())
    assert bool(fake_gpu.launches) == (backend == "cuda")
