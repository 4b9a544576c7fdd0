"""Reading electrocardiograms with wfdb, damaged records, and the synthetic heart."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from tinynet.data import DataError, mitbih_100, read_ecg, synthetic_ecg
from tinynet.data.ecg import PARTS
from tinynet.tools.bench.examples import load_example

wfdb = pytest.importorskip("wfdb")


@pytest.fixture
def record(tmp_path):
    """A record of two leads and four seconds, with three beats and a change of rhythm."""
    t = np.arange(1440) / 360
    signal = np.stack([np.sin(t), np.cos(3 * t)], axis=1)
    wfdb.wrsamp(
        "100", fs=360, units=["mV", "mV"], sig_name=["MLII", "V5"], p_signal=signal, fmt=["212", "212"],
        write_dir=str(tmp_path),
    )  # fmt: skip
    wfdb.wrann("100", "atr", np.array([18, 77, 370, 662]), ["+", "N", "A", "V"], write_dir=str(tmp_path))
    return tmp_path / "100.dat", signal


@pytest.mark.parametrize("part", PARTS)
def test_a_record_is_read_by_any_of_its_files(record, part):
    path, signal = record
    read = read_ecg(path.with_suffix(part))
    assert read.signal.dtype == np.float32
    np.testing.assert_allclose(read.signal, signal, atol=2 / 2048)  # 12 bits
    assert (read.rate, read.leads) == (360, ("MLII", "V5"))
    np.testing.assert_array_equal(read.beats, [77, 370, 662])  # the change of rhythm is not a beat
    assert "".join(read.symbols) == "NAV"


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(record, part):
    record[0].with_suffix(part).unlink()
    with pytest.raises(DataError, match=rf"100\{part}: no such file; a record has .hea, .dat, .atr"):
        read_ecg(record[0])


@pytest.mark.parametrize(
    ("part", "damage"),
    [(".dat", lambda data: data[:300]), (".hea", lambda data: b"not a header"), (".hea", lambda data: b"")],
    ids=["signal cut off", "header overwritten", "header empty"],
)
def test_a_damaged_record_is_a_sentence(record, part, damage):
    path = record[0].with_suffix(part)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"100.dat: not a readable record"):
        read_ecg(record[0])


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        (".hea", b"/mV", b"/mmHg", r"100.hea: lead MLII is in mmHg; mV, uV, .* are accepted"),
        (".hea", b"100 2 360", b"100 2 3", "100.hea: the rate is 3; 50 to 20000 samples per second"),
        (".hea", b"100 2 360", b"100 2 nan", "100.hea: the rate is missing"),
        (".hea", re.compile(rb"100 2 .*"), b"100 2", "100.hea: the rate is missing"),
        (".hea", b"100 2 360 ", b"100 2 3600 ", "100.atr: at 3600 .* a beat takes 0.08.* the rate in the header"),
        (".hea", b"100 2 360", b"100 0 360", "100.hea: the record holds no signal"),
        (".hea", re.compile(rb"212 [\d.]+"), b"212 0", "100.hea: the gain of lead MLII is 0 or missing"),
        (".hea", re.compile(rb"212 .*"), b"212", "100.hea: the gain of lead .* is 0 or missing"),
        (".hea", re.compile(rb"\d+ 0 V5"), b"7 0 V5", "100.hea: lead V5 does not have the checksum 7 of the header"),
        (".dat", re.compile(rb"^.", re.DOTALL), b"x", "100.hea: lead MLII does not have the checksum"),
        (".atr", re.compile(rb".*", re.DOTALL), b"", "100.atr: no beat is marked"),
    ],
)
def test_what_a_record_may_not_say(record, part, old, new, message):
    path = record[0].with_suffix(part)
    content = path.read_bytes()
    changed = content.replace(old, new) if isinstance(old, bytes) else old.sub(new, content, count=1)
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(DataError, match=message):
        read_ecg(record[0])


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1), ("uV", 1000), ("V", 0.001), ("nV", 1e6)])
def test_signals_are_in_millivolts_whatever_the_unit_of_the_record(tmp_path, unit, factor):
    wave = np.sin(np.arange(1440) / 50)[:, None]
    settings = {"fs": 360, "units": [unit], "sig_name": ["I"], "fmt": ["16"], "write_dir": str(tmp_path)}
    wfdb.wrsamp("r", p_signal=wave * factor, **settings)
    wfdb.wrann("r", "atr", np.array([100]), symbol=["N"], write_dir=str(tmp_path))
    np.testing.assert_allclose(read_ecg(tmp_path / "r.hea").signal, wave, atol=1e-3)


@pytest.mark.parametrize(
    ("seconds", "rate", "message"),
    [
        (15, 360, r"a record of 15 s with \d stretches of 10 s .* 7 stretches and a beat of each kind are needed"),
        (3, 360, "a record of 3 s with 0 stretches"),
        (300, 250, "the record has 250 samples per second; a multiple of 120 is needed"),
    ],
)
def test_records_that_are_too_short_for_the_example(seconds, rate, message):
    prepare = load_example("sequences/lstm_ecg.py").prepare
    with pytest.raises(DataError, match=message):
        prepare(synthetic_ecg(np.random.default_rng(0), seconds, rate), np.random.default_rng(0))


def test_beats_beyond_the_signal_are_refused(record):
    wfdb.wrann("100", "atr", np.array([77, 5000]), ["N", "N"], write_dir=str(record[0].parent))
    with pytest.raises(DataError, match=r"100.atr: the beats go up to sample 5000; the signal has 1440"):
        read_ecg(record[0])
    wfdb.wrann("100", "atr", np.array([77, 77]), ["N", "N"], write_dir=str(record[0].parent))
    with pytest.raises(DataError, match=r"100.atr: the beats are not in the order of time"):
        read_ecg(record[0])


def test_where_the_record_is_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    with pytest.raises(DataError, match=r"mitbih/100.dat was not found .*https://physionet.org"):
        mitbih_100()


def test_without_wfdb_there_is_a_sentence(record):
    program = (
        "import sys; sys.modules['wfdb'] = None\n"
        "from tinynet.data import DataError, read_ecg\n"
        "try: read_ecg(sys.argv[1])\n"
        "except DataError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(record[0])], capture_output=True, text=True, check=True)
    assert 'electrocardiograms are read by wfdb: `pip install -e ".[examples]"`' in run.stdout


def test_the_synthetic_heart():
    heart = synthetic_ecg(np.random.default_rng(0), seconds=300)
    again = synthetic_ecg(np.random.default_rng(0), seconds=300)
    np.testing.assert_array_equal(heart.signal, again.signal)
    intervals = np.diff(heart.beats) / heart.rate
    premature = heart.symbols[1:] != "N"
    assert 0.02 < premature.mean() < 0.12
    assert intervals[premature].max() < intervals[~premature].min()
    peaks = heart.signal[heart.beats, 0]
    assert peaks.min() > np.percentile(heart.signal[:, 0], 95)


@pytest.mark.skipif("not __import__('os').environ.get('TINYNET_DATA')", reason="needs the record in TINYNET_DATA")
def test_the_real_record():
    heart = mitbih_100()
    assert heart.signal.shape == (650000, 2)
    kinds, counts = np.unique(heart.symbols, return_counts=True)
    assert dict(zip(kinds, counts)) == {"A": 33, "N": 2239, "V": 1}
