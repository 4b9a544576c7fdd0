"""Electrocardiograms: signals in millivolts, and the position of each heart beat.

Records of PhysioNet lie in three files, `100.hea` (text: rate, leads, scales), `100.dat` (the samples; in format 212
two numbers of 12 bits share three bytes) and `100.atr` (the beats, as two cardiologists marked them). The package wfdb
reads them.
Moody and Mark, The impact of the MIT-BIH Arrhythmia Database, IEEE Engineering in Medicine and Biology 2001; ODC-By.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, how_to_install
from .download import find_data

MITBIH_100 = "mitbih/100.dat"
PARTS = (".hea", ".dat", ".atr")
# PhysioNet's codes for beats; other codes mark a change of rhythm, of the signal's quality, and so on.
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
MILLIVOLTS = {"mV": 1.0, "uV": 1e-3, "\u00b5V": 1e-3, "\u03bcV": 1e-3, "nV": 1e-6, "V": 1e3}  # micro has two letters
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")  # in the header
RATES, INTERVALS = (50, 20_000), (0.15, 4.0)  # of electrocardiograms; the median seconds from beat to beat


@dataclass
class Recording:
    """One record.

    signal: float32 (samples, leads), millivolts. rate: samples per second. leads: their names. beats: int64 (beats,),
    the sample of each beat's peak. symbols: one character for each beat, e.g. N normal, A atrial premature, V
    ventricular.
    """

    signal: np.ndarray
    rate: float
    leads: tuple[str, ...]
    beats: np.ndarray
    symbols: np.ndarray


def mitbih_100(given: str | Path | None = None) -> Recording:
    """Record 100 of the MIT-BIH Arrhythmia Database: 30 minutes of two leads at 360 Hz, 2,273 beats.

    given: the file 100.dat or a folder with it, as after `--data`; the default is what `data_path` finds.
    Raises DataError if it is not found or cannot be read, or if wfdb is not installed.
    """
    return read_ecg(find_data(MITBIH_100, given))


def read_ecg(path: str | Path) -> Recording:
    """Read a record in PhysioNet's format (WFDB), with its beats.

    path: one of its files, .hea, .dat or .atr; all three must be in one folder. Raises DataError with the name of the
    file if a file is missing or damaged (the header holds a checksum of each lead), if the signal has gaps or is not
    calibrated in volts, or if rate and beats are not those of a heart.
    """
    try:
        import wfdb
    except ImportError as error:
        raise DataError(f"read_ecg: electrocardiograms are read by wfdb: {how_to_install('examples')}") from error
    path = Path(path)
    for part in PARTS:
        if not path.with_suffix(part).exists():
            raise DataError(f"{path.with_suffix(part)}: no such file; a record has {', '.join(PARTS)}")
    name = str(path.with_suffix(""))
    try:
        record, annotation = wfdb.rdrecord(name, physical=False), wfdb.rdann(name, "atr")
        header = path.with_suffix(".hea").read_text(encoding="latin-1")
        signal = _millivolts(record, header, path.with_suffix(".hea"))
    except DataError:
        raise
    except Exception as error:  # wfdb does not document its errors for damaged files
        raise DataError(f"{path}: not a readable record ({error})") from error
    is_beat = np.array([symbol in BEATS for symbol in annotation.symbol], dtype=bool)
    beats, symbols = annotation.sample[is_beat].astype(np.int64), np.array(annotation.symbol)[is_beat]
    _check_beats(beats, len(signal), float(record.fs), path.with_suffix(".atr"))
    return Recording(signal, float(record.fs), tuple(record.sig_name), beats, symbols)


def _millivolts(record: Any, header: str, path: Path) -> np.ndarray:
    """The signal of a wfdb record of whole numbers, float32 (samples, leads). path: its header, for messages."""
    if not record.n_sig or record.d_signal is None or not len(record.d_signal):
        raise DataError(f"{path}: the record holds no signal")
    lines = [line.split() for line in header.splitlines() if line.strip() and not line.startswith("#")]
    rate = NUMBER.match((lines[0][2:] or [""])[0])  # wfdb would take 250
    if rate is None or not RATES[0] <= record.fs <= RATES[1]:
        found = record.fs if rate else "missing"
        raise DataError(f"{path}: the rate is {found}; {RATES[0]} to {RATES[1]} samples per second are accepted")
    for words, lead, unit in zip(lines[1:], record.sig_name, record.units):
        gain = NUMBER.match(words[2]) if len(words) > 2 else None
        if gain is None or float(gain.group()) == 0:  # wfdb would take 200
            raise DataError(f"{path}: the gain of lead {lead} is 0 or missing: its unit is unknown")
        if unit not in MILLIVOLTS:
            raise DataError(f"{path}: lead {lead} is in {unit}; {', '.join(MILLIVOLTS)} are accepted")
    for stored, found, lead in zip(record.checksum, record.calc_checksum(), record.sig_name):
        is_known = stored is not None and set(record.samps_per_frame) == {1}  # otherwise wfdb gives means of samples
        if is_known and (stored - found) % 2**16:
            raise DataError(f"{path}: lead {lead} does not have the checksum {stored} of the header: a file is damaged")
    signal = record.dac() * [MILLIVOLTS[unit] for unit in record.units]
    if not np.isfinite(signal).all():
        raise DataError(f"{path}: the signal has gaps")
    return signal.astype(np.float32)


def _check_beats(beats: np.ndarray, samples: int, rate: float, path: Path) -> None:
    """Raise DataError unless the beats are in order, within the signal, and as fast as those of a heart."""
    if not len(beats):
        raise DataError(f"{path}: no beat is marked")
    intervals = np.diff(beats)
    if beats[0] < 0 or (intervals <= 0).any():
        raise DataError(f"{path}: the beats are not in the order of time")
    if beats[-1] >= samples:
        raise DataError(f"{path}: the beats go up to sample {beats[-1]}; the signal has {samples}")
    if len(intervals) and not INTERVALS[0] <= np.median(intervals) / rate <= INTERVALS[1]:
        raise DataError(
            f"{path}: at {rate:g} samples per second a beat takes {np.median(intervals) / rate:.3g} s; "
            f"{INTERVALS[0]} to {INTERVALS[1]} s are accepted: the rate in the header may be wrong"
        )


# ---------------------------------------------------------------------------------------- synthetic
# The bumps of one beat: seconds from the peak, width in seconds, height in millivolts in each of two leads.
NORMAL = [
    (-0.17, 0.025, 0.12, 0.05),  # P: the atria contract
    (-0.03, 0.010, -0.10, -0.15),  # Q, R, S: the ventricles do
    (0.00, 0.012, 1.00, 0.50),
    (0.03, 0.012, -0.20, -0.30),
    (0.28, 0.050, 0.25, -0.10),  # T: they recover
]
ATRIAL = [(-0.13, 0.020, 0.08, 0.07), *NORMAL[1:]]
VENTRICULAR = [(-0.02, 0.050, 1.10, 0.80), (0.08, 0.050, -0.50, -0.40), (0.30, 0.070, -0.35, -0.20)]
SHAPES = {"N": NORMAL, "A": ATRIAL, "V": VENTRICULAR}


def synthetic_ecg(rng: np.random.Generator, seconds: float = 120.0, rate: float = 360.0) -> Recording:
    """A synthetic recording that can replace the real one: two leads, about one beat in twenty premature.

    A beat is a sum of Gaussian bumps (after McSharry et al., A dynamical model for generating synthetic
    electrocardiogram signals, 2003). The rhythm follows the breathing, and the signal has noise and a drift. Premature
    beats are A or V, five to one, 30 % early, with a pause afterwards.
    """
    time = np.arange(round(seconds * rate)) / rate
    signal = 0.02 * rng.standard_normal((len(time), 2)) + 0.05 * np.sin(0.5 * time)[:, None] - 0.3
    beats: list[int] = []
    symbols: list[str] = []
    peak = 0.5
    while peak < seconds - 0.5:
        is_premature = len(beats) > 3 and symbols[-1] == "N" and rng.random() < 0.06
        symbol = ("V" if rng.random() < 1 / 6 else "A") if is_premature else "N"
        interval = 0.8 * (1 + 0.04 * np.sin(1.6 * peak) + 0.015 * rng.standard_normal())
        if is_premature:
            peak -= 0.3 * interval
        near = slice(max(0, round((peak - 0.6) * rate)), round((peak + 0.8) * rate))  # bumps are zero beyond
        for offset, width, *heights in SHAPES[symbol]:
            bump = np.exp(-0.5 * ((time[near] - peak - offset) / width) ** 2)
            signal[near] += bump[:, None] * heights
        beats.append(round(peak * rate))
        symbols.append(symbol)
        peak += interval * (1.25 if is_premature else 1.0)
    return Recording(signal.astype(np.float32), rate, ("I", "II"), np.array(beats), np.array(symbols))
