"""The report: where an array is wrong, in words, and which mistake gives exactly that."""

import numpy as np
import pytest
from functions import randn

from tinynet.learn.gradcheck import explain, jacobian_of
from tinynet.learn.gradcheck.where import at, describe

KERNEL = ("kh", "kw", "c_in", "c_out")
IMAGES = ("n", "h", "w", "c")


def marked(shape, *places):
    mask = np.zeros(shape, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


# ---------------------------------------------------------------------------------------- where
@pytest.mark.parametrize(
    ("mask", "axes", "words"),
    [
        (marked((3, 3, 2, 2)), KERNEL, "nowhere"),
        (marked((2, 2), ...), ("h", "w"), "everywhere"),
        (marked((3, 3, 4, 2), np.s_[:, :, 3, :]), KERNEL, "all at [:, :, 3, :], the last input channel"),
        (marked((3, 3, 4, 2), np.s_[2]), KERNEL, "all at [2, :, :, :], the last kernel row"),
        (marked((2, 5, 4, 3), np.s_[0, 0]), IMAGES, "all at [0, 0, :, :], the first sample, the first row"),
        (marked((5, 4), np.s_[1:]), ("axis 0", "axis 1"), "all at [1:, :], everything but the first index of axis 0"),
        (marked((5, 4), np.s_[1:3]), ("h", "w"), "all at [1:3, :]"),
        (marked((6, 4), np.s_[::2]), ("h", "w"), "all at [::2, :]"),
        (marked((5, 4), np.s_[[0, 3]]), ("h", "w"), "all at [(0, 3), :]"),
        (marked((5, 4), np.s_[2, 1]), ("h", "w"), "all at [2, 1], row 2, column 1"),
        (marked((5, 4), np.s_[0], np.s_[-1]), ("h", "w"), "all at [(0, 4), :]"),
        (marked((5, 4), np.s_[0], np.s_[:, -1]), ("h", "w"), "all of the first row and of the last column"),
        (marked((5, 4), np.s_[1, 1], np.s_[1, 3], np.s_[2, 1]), ("h", "w"), "3 of the 4 entries at [1:3, (1, 3)]"),
        (marked((2, 2), np.s_[0, 0], np.s_[1, 1]), ("h", "w"), "scattered over the array, 2 of 4 entries"),
    ],
)
def test_where_in_words(mask, axes, words):
    assert describe(mask, axes) == words


def test_where_by_the_sign_of_a_known_array():
    x = randn(4, 5)
    assert describe(x < 0, ("h", "w"), {"x": x}) == "exactly where x < 0"
    assert describe(x > 0, ("h", "w"), {"x": x}) == "exactly where x > 0"
    assert describe(x == 0, ("h", "w"), {"x": x}) == "nowhere"
    x[1, [1, 2]] = x[3, 0] = 0
    assert describe(x == 0, ("h", "w"), {"x": x}) == "exactly where x == 0"


def test_an_index_has_the_names_of_its_axes():
    assert at((0, 2, 1, 3), IMAGES) == "n=0, h=2, w=1, c=3"
    assert at((0, 2), ("axis 0", "axis 1")) == "[0, 2]"


# ---------------------------------------------------------------------------------------- the mistake
EXPECTED = randn(3, 2, 4, 5)


@pytest.mark.parametrize(
    ("actual", "sentence"),
    [
        (0 * EXPECTED, "it is 0: the result is never computed"),
        (-EXPECTED, "the sign is wrong: it is exactly minus the right result"),
        (EXPECTED / 7, "it is exactly 1/7 times the right result"),
        (
            EXPECTED / 2,
            "1/2 times the right result (2 is the length of kw (kernel columns): averaged where it must be summed?)",
        ),
        (
            12 * EXPECTED,
            "12 times the right result (12 is the length of kh and c_in: summed where it must be averaged?)",
        ),
        (1.00025 * EXPECTED, "it is exactly 1.00025 times the right result"),
        (EXPECTED[::-1, ::-1], "it is flipped along kh and kw (the kernel is flipped)"),
        (EXPECTED[..., ::-1], "it is flipped along c_out (output channels)"),
        (np.roll(EXPECTED, 1, 2), "it is shifted by one along c_in (input channels) towards the end (going round)"),
        (
            np.concatenate([EXPECTED[1:], 0 * EXPECTED[:1]]),
            "it is shifted by one along kh (kernel rows) towards the start (zeros",
        ),
        (EXPECTED + 0 * EXPECTED.sum(0) + EXPECTED.sum(0) - EXPECTED, "it is summed over kh (kernel rows)"),
        (np.full_like(EXPECTED, 3.0), "all entries are 3"),
        (np.full_like(EXPECTED, np.nan), "all entries are NaN"),
        (EXPECTED.astype(np.float32).astype(float) * (1 + 2e-7 * np.sign(EXPECTED)), "to about seven digits only"),
        (-3 * np.flip(EXPECTED, 2), "it is flipped along c_in (input channels), times -3"),
    ],
)
def test_the_mistake_is_named(actual, sentence):
    found = explain(actual, EXPECTED, axes=KERNEL, tolerance=1e-9)
    assert not found
    assert sentence in found.sentence, str(found)
    assert found.sentence in str(found)


def test_swapped_axes():
    square = randn(4, 4)
    assert explain(square.T, square).sentence == "axes axis 0 and axis 1 are swapped (transposed)"
    assert explain(2 * square.T, square).sentence == "axes axis 0 and axis 1 are swapped (transposed), times 2"


def test_a_mistake_in_some_entries_only():
    x = randn(4, 6)
    found = explain(np.where(x < 0, 2 * EXPECTED[0, 0, 0, 0] * x, x), x, known={"x": x})
    assert found.where == "exactly where x < 0"
    assert found.sentence.startswith("in the wrong entries it is exactly")
    lost = x.copy()
    lost[1, 2] = 0
    assert (
        explain(lost, x).sentence
        == "in the wrong entries it is 0: the result there is never computed; all others are right"
    )


def test_known_arrays():
    x, y = randn(3, 4), randn(3, 4, seed=1)
    assert explain(x, x * y, known={"x": x, "y": y}).sentence == "it is exactly x"
    assert explain(y * y, y, known={"x": x, "y": y}).sentence == "it is the right result times y: a factor y too many"
    assert explain(x + y, x, known={"y": y}).sentence == "y is added to the right result"
    assert explain(x * y, x + 1, known={"x": x, "y": y}).sentence == "it is exactly x times y"


def test_with_the_jacobian_what_was_done_to_gy_is_found():
    def backward(gy):  # of y = x[[0, 1, 1, 2]]
        return np.stack([gy[0], gy[1] + gy[2], gy[3]])

    gy = randn(4)
    J = jacobian_of(backward, gy.shape)
    assert J.shape == (3, 4)
    np.testing.assert_array_equal(J @ gy, backward(gy))
    known = {"gy": gy, "jacobian": J, "gy_axes": ("n",)}
    assert explain(backward(np.ones(4)), backward(gy), **known).sentence.startswith("gy is ignored")
    assert "gy is flipped along n (samples)" in explain(backward(gy[::-1]), backward(gy), **known).sentence
    overwritten = np.stack([gy[0], gy[2], gy[3]])
    assert "`=` where `+=` is needed" in explain(overwritten, backward(gy), **known).sentence
    without_first = backward(np.concatenate([[0], gy[1:3], [0]]))
    assert (
        "first sample and the last sample of gy are never used"
        in explain(without_first, backward(gy), **known).sentence
    )


def test_alternatives_of_the_caller_come_before_what_is_far_fetched():
    expected = randn(3, 4)
    tried = []

    def unable():
        tried.append(True)

    found = explain(
        expected[::-1], expected, alternatives={"cannot tell": unable, "read from below": lambda: expected[::-1]}
    )
    assert found.sentence == "read from below"
    assert tried


def test_what_was_tried_in_vain_is_listed():
    found = explain(randn(3, 4, seed=1), randn(3, 4))
    assert found.sentence is None
    assert "a sign or a constant factor" in found.tried
    assert "axes flipped" in str(found)
    assert "`=` for `+=`" not in str(found)  # that needs the Jacobian


def test_a_single_number_fits_no_factor_by_chance():
    assert explain(0.7321, 1.9).sentence is None
    assert explain(3.8, 1.9).sentence == "it is exactly 2 times the right result"


# ---------------------------------------------------------------------------------------- shapes
@pytest.mark.parametrize(
    ("actual", "expected", "sentence"),
    [
        (randn(5, 3, 4), randn(5, 3, 4).sum(0), "a broadcast is not summed back: sum it over axis 0"),
        (randn(5, 3, 4), randn(5, 3, 4).sum((0, 1)), "a broadcast is not summed back: sum it over axes (0, 1)"),
        (randn(5, 3), randn(5, 3).sum(1, keepdims=True), "a broadcast is not summed back: sum it over axis 1"),
        (randn(3, 4), randn(3, 4).T, "axes are swapped: (3, 4) transposed is right"),
        (randn(3, 4), randn(3, 4).reshape(2, 6), "the values are right, reshaped to (2, 6)"),
        (randn(5, 4)[:-1], randn(5, 4), "the values are right, but the last ones along h are missing"),
        (np.pad(randn(5, 4), ((0, 1), (0, 0))), randn(5, 4), "the values are right, but there are too many along h"),
        (randn(2, 2), randn(5, 4), None),
    ],
)
def test_a_wrong_shape_is_explained(actual, expected, sentence):
    axes = ("h", "w")[: expected.ndim] if expected.ndim < 3 else ("h", "w", "c")
    found = explain(actual, expected, axes=axes)
    assert not found
    assert found.sentence == sentence
    assert f"its shape is {actual.shape}, {expected.shape} is needed" in str(found)


# ---------------------------------------------------------------------------------------- values and figures
def test_the_report_shows_the_worst_entry_and_its_plane():
    expected = np.arange(24.0).reshape(2, 3, 4) + 1
    actual = expected.copy()
    actual[1, 2, 0] = 27.0
    found = explain(actual, expected, axes=("n", "h", "w"), titles=("mine", "theirs"))
    assert (found.wrong, found.size) == (1, 24)
    assert (found.worst.index, found.worst.actual, found.worst.expected) == ((1, 2, 0), 27.0, 21.0)
    assert found.worst.ratio == pytest.approx(27 / 21)
    assert str(found.worst) == "at n=1, h=2, w=0: 27, not 21; ratio 1.28571"
    lines = [line.split() for line in str(found.plane).splitlines()]
    assert str(found.plane).startswith("the plane [1, :, :]: h down, w across")
    assert ["mine", "theirs"] in lines
    assert ["2", "|", "27*", "22", "23", "24", "2", "|", "21*", "22", "23", "24"] in lines


def test_of_a_large_plane_a_window_is_shown():
    expected = randn(40, 50)
    actual = expected.copy()
    actual[37, 3] += 1
    plane = str(explain(actual, expected).plane)
    assert max(len(line) for line in plane.splitlines()) < 140
    assert "37 |" in plane and "*" in plane and len(plane.splitlines()) < 12


def test_an_error_bar_is_respected_and_shown():
    expected = randn(3, 3)
    assert explain(expected + 0.01, expected, error_bar=0.02)
    found = explain(expected + 0.03, expected, error_bar=0.02)
    assert not found
    assert "(error bar 0.02)" in str(found)


def test_nothing_wrong():
    found = explain(EXPECTED * (1 + 1e-9), EXPECTED)
    assert found
    assert (found.wrong, found.where, found.sentence, found.worst) == (0, "nowhere", None, None)
    assert "right, to 1e-09 of the largest value" in str(found)
    with pytest.raises(ValueError, match="no wrong entry to show"):
        found.heat_map("never.png")


def test_float32_is_compared_as_what_it_is():
    expected = randn(50)
    assert explain(expected.astype(np.float32), expected)
    assert not explain(expected * (1 + 1e-5), expected)


def test_infinities_and_nan():
    expected = randn(3, 4)
    actual = expected.copy()
    actual[1, 1], actual[0, 2] = np.inf, np.nan
    found = explain(actual, expected)
    assert (found.wrong, found.sentence) == (2, None)
    assert found.worst.index in [(1, 1), (0, 2)]
    str(found)


def test_names_of_axes_must_fit():
    with pytest.raises(ValueError, match=r"has 2 names, expected \(3, 2, 4, 5\) has 4 axes"):
        explain(EXPECTED, EXPECTED, axes=("h", "w"))


@pytest.mark.parametrize("shape", [(), (7,), (6, 9), (2, 5, 4, 3)])
def test_the_heat_map_is_a_figure(shape, tmp_path):
    from PIL import Image

    expected = np.asarray(randn(*shape))
    actual = expected + np.where(np.arange(expected.size).reshape(shape) == expected.size - 1, 0.5, 0.0)
    path = tmp_path / "map.png"
    explain(actual, expected).heat_map(path)
    with Image.open(path) as image:
        assert image.width > 600
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


@pytest.mark.parametrize(
    ("actual", "expected", "error_bar"),
    [
        ([1e-3, -1e-3, 2e-3], [0.5, -0.5, 0.5], 0.4),  # "it is 0"
        ([0.50002, -0.90004, 1.00004], [0.5, -0.9, 1.0], 1e-5),  # "exactly 1 times"
        ([1.0, -2.0, 2.1], [0.5, -0.9, 1.0], 0.3),  # "exactly 2 times"
    ],
)
def test_nothing_is_claimed_within_the_error_bar(actual, expected, error_bar):
    found = explain(np.array(actual), np.array(expected), error_bar=error_bar)
    assert found.wrong and found.sentence is None, str(found)
