"""The reader of the disease ontology: the tree, several parents, and the messages for broken tables."""

import pytest

from tinynet.data import DataError, data_path, read_ontology, synthetic_ontology
from tinynet.data.ontology import ADDRESS, ONTOLOGY

HEADER = "id\tlabel\tsubClassOf\n"
ROWS = '"D:1"\t"skin disease"\t"disease"\n"D:2"\t"rash"\t"skin disease"\n"D:3"\t"red rash"\t"rash"\n'
TWICE = '"D:4"\t"itch"\t"skin disease"\n"D:4"\t"itch"\t"red rash"\n'


def write(tmp_path, text):
    path = tmp_path / "HumanDO.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_disease_may_have_several_parents(tmp_path):
    write(tmp_path, "\ufeff" + HEADER + ROWS + "\n" + TWICE)
    tree = read_ontology(tmp_path)
    assert tree.root == "disease" and tree.parents["disease"] == () and tree.ids["red rash"] == "D:3"
    assert tree.parents["itch"] == ("skin disease", "red rash")
    assert tree.children == {
        **{"disease": ("skin disease",), "skin disease": ("itch", "rash"), "rash": ("red rash",)},
        **{"red rash": ("itch",), "itch": ()},
    }
    assert sorted(tree.below("skin disease")) == ["itch", "rash", "red rash", "skin disease"], "each once"
    assert tree.below("itch") == ["itch"]
    with pytest.raises(ValueError, match="there is no disease 'flu' in the ontology"):
        tree.below("flu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 holds nothing; the columns id, label, subClassOf with tabs between are needed"),
        ("id,label,subClassOf\n", "line 1 holds id,label,subClassOf; the columns"),
        ("label\tid\tsubClassOf\n", "line 1 holds label, id, subClassOf; the columns"),
        (HEADER, "the table has no rows below its header"),
        (HEADER + "D:1\tx\n", r"line 2 has ['D:1', 'x']; an id, a label and a parent's label are needed"),
        (HEADER + ROWS + "D:9\t\tdisease\n", r"line 5 has ['D:9', '', 'disease']; an id, a label"),
        (HEADER + ROWS + "D:9\tx\tdisease\tmore\n", "line 5 has ['D:9', 'x', 'disease', 'more']"),
        (HEADER + ROWS + "D:1\tother\trash\n", "line 5: D:1 is other, but an earlier line has skin disease"),
        (HEADER + ROWS + "D:9\trash\tdisease\n", "line 5: rash is D:9, but an earlier line has D:2"),
        (HEADER + ROWS + "D:2\trash\tskin disease\n", "line 5 repeats that 'rash' is a kind of 'skin disease'"),
        (
            HEADER + ROWS + "D:9\tx\tunknown\n",
            "line 5: the parent 'unknown' has no row; only the root",
        ),
        (
            HEADER + "D:9\tx\tunknown\n" + ROWS,
            "line 2: the parent 'unknown' has no row; only the root",
        ),
        (
            HEADER + ROWS + "D:2\trash\tred rash\n",
            "diseases descend from themselves: rash is a kind of red rash is a kind of rash",
        ),
        (HEADER + ROWS + "D:9\tx\tx\n", "diseases descend from themselves: x is a kind of x"),
        (HEADER + "D:1\ta\tb\nD:2\tb\ta\n", "every parent has a row, so diseases descend from themselves: a is a kind"),
        (HEADER.encode() + b"D:1\t\xff\xfe\tdisease\n", "not a readable table"),
        (HEADER + 'D:1\t"open\tdisease\n', "not a readable table (unexpected end of data)"),
        (HEADER + f"D:1\t{'x' * 200_000}\tdisease\n", "not a readable table (field larger than field limit"),
    ],
)
def test_broken_tables_are_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_ontology(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_long_cycle_is_shortened(tmp_path):
    rows = "".join(f"D:{i}\tx{i}\tx{(i + 1) % 20_000}\n" for i in range(20_000))
    with pytest.raises(DataError, match=r"x0 is a kind of x1 .* is a kind of \.\.\. \(19996 more\) is a kind of x0$"):
        read_ontology(write(tmp_path, HEADER + rows))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tinynet.data.ontology.MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"\d+ bytes; at most 100 are read"):
        read_ontology(write(tmp_path, HEADER + ROWS + TWICE))


def test_a_missing_file_is_a_sentence_with_its_address(tmp_path, monkeypatch):
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    with pytest.raises(DataError) as caught:
        read_ontology()
    assert f"{ONTOLOGY} was not found" in str(caught.value) and ADDRESS in str(caught.value)
    with pytest.raises(DataError, match="not a readable table"):
        read_ontology(tmp_path)


def test_the_small_tree():
    tree = synthetic_ontology()
    assert len(tree.below("disease")) == 35 and len(tree.below("skin disease")) == 21
    assert set(tree.ids) == set(tree.parents) - {"disease"}


def test_the_real_ontology():
    if data_path(ONTOLOGY) is None:
        pytest.skip(f"{ONTOLOGY} is neither in TINYNET_DATA nor in the cache")
    tree = read_ontology()
    assert tree.root == "disease" and len(tree.ids) == 12_246 and len(tree.below("disease")) == 12_247
    assert len(tree.children["disease"]) == 8 and sum(len(parents) > 1 for parents in tree.parents.values()) == 49
    assert len(tree.below("skin disease")) == 374 and tree.ids["osteoarthritis"] == "DOID:8398"
