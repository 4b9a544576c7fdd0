"""Tables: with and without a header, missing values, and the messages for broken tables."""

import os
import sys

import numpy as np
import pytest

from tinynet.data import (
    DataError,
    bundled,
    cleveland,
    data_path,
    dermatology,
    read_table,
    standardize,
    stratified_folds,
)
from tinynet.data.tables import DISEASES, HEART_COLUMNS


def write(tmp_path, text):
    path = tmp_path / "table.data"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("header", ["", "weight,height, class\n"])
def test_header_and_missing_values(tmp_path, header):
    columns, values = read_table(write(tmp_path, header + "1,?,0\n\n2.5,-3e1,1\n,4,0\n"), ("a", "b", "c"))
    assert columns == (("weight", "height", "class") if header else ("a", "b", "c"))
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [[1, np.nan, 0], [2.5, -30, 1], [np.nan, 4, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table has no rows"),
        ("x,y\n", "the table has no rows"),
        ("x,y,z\n1,2,3\n", "line 1 names 3 columns; 2 are needed"),
        ("1,2\n\n1,2,3\n", "line 3 has 3 values; 2 are needed"),
        ("x,y\n1,2\n3,four\n", "line 3, column y: 'four' is neither a number nor '?'"),
        (b"\xff\xfe\x00,1\n", "not a readable table"),
        ("b,a\n1,2\n", "line 1 has b in place of a; the order a, b is needed"),
        ("other,A\n1,2\n", "line 1 has A in place of b"),
        ("1,1_0\n", "line 1, column b: '1_0' is neither"),
        ("1,1e999\n", "line 1, column b: '1e999' is neither"),
    ],
)
def test_broken_tables_are_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_table(path, ("a", "b"))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_table_with_the_byte_order_mark_of_a_spreadsheet(tmp_path):
    assert read_table(write(tmp_path, "\ufeffA,b\n1,2\n"), ("a", "b"))[0] == ("A", "b")
    assert read_table(write(tmp_path, "\ufeff1,2\n"), ("a", "b"))[1].tolist() == [[1, 2]]


@pytest.mark.parametrize("label", ["7", "0", "-1", "1.5", "?", "", "nan"])
def test_labels_that_are_none(tmp_path, label):
    row = ",".join(["1"] * 33)
    with pytest.raises(DataError, match=r"row 2 has the class \S+; 1 to 6 are needed"):
        dermatology(write(tmp_path, f"{row},40,6\n{row},30,{label}\n"))


def test_classes_are_numbered_from_zero(tmp_path):
    row = ",".join(["1"] * 33)
    table = dermatology(write(tmp_path, f"{row},40,6\n{row},?,1\n"))
    assert table.target.tolist() == [5, 0] and table.classes == DISEASES
    assert table.features.shape == (2, 34) and table.columns[-1] == "age" and np.isnan(table.features[1, -1])


def test_a_missing_file_is_a_sentence_with_its_address(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    with pytest.raises(
        DataError, match=r"tables/dermatology.data was not found .* https://\S+dermatology.data and name it"
    ):
        dermatology()
    with pytest.raises(DataError, match=r"tables/processed\.cleveland.data was not found in "):
        cleveland(tmp_path)


def test_the_real_tables():
    if not os.environ.get("TINYNET_DATA") or data_path("tables/dermatology.data") is None:
        pytest.skip("TINYNET_DATA does not name a folder with the tables")
    skin, heart = dermatology(), cleveland()
    assert skin.features.shape == (366, 34) and np.bincount(skin.target).tolist() == [112, 61, 72, 49, 52, 20]
    assert np.isnan(skin.features).sum(axis=0).nonzero()[0].tolist() == [33]
    assert np.isnan(skin.features).sum() == 8
    assert heart.features.shape == (303, 13) and heart.columns == HEART_COLUMNS[:-1]
    assert np.bincount(heart.target).tolist() == [164, 55, 36, 35, 13] and np.isnan(heart.features).sum() == 6


def test_bundled_tables():
    pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'examples'")
    cells, sugar, digits = bundled("breast_cancer"), bundled("diabetes"), bundled("digits")
    assert cells.features.shape == (569, 30) and np.bincount(cells.target).tolist() == [357, 212]
    assert cells.features[cells.target == 1, 0].mean() > cells.features[cells.target == 0, 0].mean(), "1 is malignant"
    assert sugar.features.shape == (442, 10) and sugar.features[:, 2].min() >= 18 and sugar.classes == ()
    assert digits.features.shape == (1797, 64) and len(digits.classes) == 10
    with pytest.raises(DataError, match="there is no 'iris'"):
        bundled("iris")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r'is part of scikit-learn: `pip install -e "\.\[examples\]"`'):
        bundled("digits")


def test_folds_have_their_share_of_every_class():
    target = np.repeat([0, 1, 2], [10, 7, 25])
    fold = stratified_folds(target, 5, np.random.default_rng(0))
    for number, count in enumerate(np.bincount(target)):
        shares = np.bincount(fold[target == number], minlength=5)
        assert shares.min() >= count // 5 and shares.max() <= -(-count // 5)
    assert np.ptp(np.bincount(fold)) <= 1
    assert (fold != stratified_folds(target, 5, np.random.default_rng(1))).any()
    with pytest.raises(ValueError, match="class 1 has 7 examples, too few for 8 folds"):
        stratified_folds(target, 8, np.random.default_rng(0))
    with pytest.raises(ValueError, match="folds is 1; at least 2"):
        stratified_folds(target, 1, np.random.default_rng(0))


def test_standardize_knows_the_training_rows_only():
    training = np.array([[1, 5, np.nan], [3, 5, 2], [5, 5, 4], [3, 5, 9]])
    ours, test = standardize(training, np.array([[np.nan, 6, 100.0]]))
    assert ours.dtype == test.dtype == np.float32
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(ours.std(axis=0), [1, 0, 1], rtol=1e-6)
    filled = np.array([4, 2, 4, 9])  # the median of 2, 4 and 9
    np.testing.assert_allclose(test, [[0, 1, (100 - filled.mean()) / filled.std()]], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 14.62, 1e6 + 0.1, -37.2, 1e-300])
@pytest.mark.parametrize("rows", [3, 7, 100])
def test_a_constant_column_becomes_zeros(value, rows):
    """The mean of equal numbers may differ from them in the last digit, and then their deviation is not 0."""
    training = np.full((rows, 1), value)
    training[1] = np.nextafter(value, np.inf)  # equal up to rounding
    training[2] = np.nan
    ours, others = standardize(training, np.array([[value], [value + 0.5]]))
    assert not ours.any() and others[:, 0] == pytest.approx([0, 0.5], abs=1e-9)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.ones(3)], r"the shapes are \(3,\); \(rows, columns\)"),
        ([np.ones((3, 2)), np.ones((3, 1))], r"the shapes are \(3, 2\), \(3, 1\)"),
        ([np.array([[1, np.nan], [2, np.nan]])], r"the columns \[1\] have no value in the training rows"),
        ([np.ones((2, 1)), np.array([[np.inf]])], "a value is infinite"),
    ],
)
def test_what_cannot_be_standardized(arrays, message):
    with pytest.raises(ValueError, match=message):
        standardize(*arrays)
