"""Electrocardiograms: signals in millivolts, and the position of each heart beat.

Records of PhysioNet lie in three files, `100.hea` (text: rate, leads, scales), `100.dat` (the samples; in format 212
two numbers of 12 bits share three bytes) and `100.atr` (the beats, as two cardiologists marked them). The package wfdb
reads them.
Moody and Mark, The impact of the MIT-BIH Arrhythmia Database, IEEE Engineering in Medicine and Biology 2001; ODC-By.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .download import find_data

MITBIH_100 = "mitbih/100.dat"
PARTS = (".hea", ".dat", ".atr")
# PhysioNet's codes for beats; other codes mark a change of rhythm, of the signal's quality, and so on.
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")


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
    file if a file is missing or damaged, or if the signal has gaps.
    """
    try:
        import wfdb
    except ImportError as error:
        raise DataError('read_ecg: electrocardiograms are read by wfdb: pip install "tinynet[examples]"') from error
    path = Path(path)
    for part in PARTS:
        if not path.with_suffix(part).exists():
            raise DataError(f"{path.with_suffix(part)}: no such file; a record has {', '.join(PARTS)}")
    name = str(path.with_suffix(""))
    try:
        record, annotation = wfdb.rdrecord(name), wfdb.rdann(name, "atr")
    except Exception as error:  # wfdb does not document its errors for damaged files
        raise DataError(f"{path}: not a readable record ({error})") from error
    signal = record.p_signal.astype(np.float32)
    if not np.isfinite(signal).all():
        raise DataError(f"{path}: the signal has gaps")
    is_beat = np.array([symbol in BEATS for symbol in annotation.symbol], dtype=bool)
    beats, symbols = annotation.sample[is_beat].astype(np.int64), np.array(annotation.symbol)[is_beat]
    if len(beats) and not 0 <= beats.min() <= beats.max() < len(signal):
        raise DataError(f"{path}: the beats go up to sample {beats.max()}; the signal has {len(signal)}")
    return Recording(signal, float(record.fs), tuple(record.sig_name), beats, symbols)


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
