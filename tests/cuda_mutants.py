"""Takes each barrier, bounds test and mask out of the CUDA kernels, one at a time, and looks whether a check notices.

    python tests/cuda_mutants.py                     # all of them; ends with those that no check noticed
    python tests/cuda_mutants.py conv2d/blocked.cu   # those of the files with this in their name

A *mutant* is a kernel with one such change. Mutants are not compiled one by one: the text of a file gets all its
changes, each behind a switch, `MUTANT(number)`, and a run turns one of them on. So a file is compiled once. The
switches record which of them a call passes, and a mutant runs only the calls that pass its switch.

A call is a kernel of an op folder with arrays of its `cases.py`: as they are, misaligned, and with a NaN in each. A
mutant is noticed if the emulator's checks report something, if the result differs from the reference, or if it never
ends. Each runs in a process of its own: a child that inherits the loaded libraries and turns its switch on.
"""

from __future__ import annotations

import copy
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from op_folders import misaligned

from tinynet import cusim
from tinynet.backends.cuda.source import HEADERS, PACKAGE, Source
from tinynet.backends.registry import implementation_kernel, implementations, ops
from tinynet.ops._shared.case import Case, map_arrays

SECONDS_FOR_MORE = 2  # for the calls of a mutant that are neither the first of their kind nor of their path
SECONDS = 6  # of the processor, after which a mutant is taken to be endless
SURVIVED, WRONG, REPORTED, ENDLESS, FAILED = range(10, 15)  # exit codes, none that a process has by itself
WORDS = {
    None: "listed as equivalent",
    SURVIVED: "NOT NOTICED",
    WRONG: "gave a wrong value",
    REPORTED: "reported by the checks",
    ENDLESS: "never ended",
    FAILED: "FAILED OTHERWISE",
}
NOTICED = {None, WRONG, REPORTED, ENDLESS}


# ---------------------------------------------------------------------------------------- where a text can be changed
@dataclass(frozen=True)
class Change:
    """The text between start and end is put between `before` and `after`, in which {} is the switch.

    what: in words. The text stays as it was while the switch is off.
    """

    start: int
    end: int
    before: str
    after: str
    what: str


_TOKEN = re.compile(r"\w+|::|->|&&|\|\||<<|>>|[-+*/%&|^<>=!]=|\S")
# What has no part in a run: comments, preprocessor lines, what the emulator does not compile, what is decided when
# compiling, and the heads of loops that are unrolled, whose length is a constant.
_ASIDE = re.compile(
    r"//[^\n]*|/\*.*?\*/|^#ifndef CUSIM$.*?^#endif|#pragma unroll[^\n]*\n\s*for \([^)]*\)|^#(?:[^\n]*\\\n)*[^\n]*"
    r"|^[^\n]*\b(?:constexpr|static_assert|template|typedef)\b[^\n]*",
    re.DOTALL | re.MULTILINE,
)
_BEFORE_EXPRESSION = {";", "{", "}", ",", "=", "+=", "-=", "*=", "?", ":", "return"}
_AFTER_EXPRESSION = {";", ",", "?", ":"}
_ATOMIC = {"Add": "{0} += {1}", "Min": "{0} = min({0}, {1})", "Max": "{0} = max({0}, {1})", "Exch": "{0} = {1}"}


def changes(text: str) -> list[Change]:
    """All changes to the text of a .cu or .cuh file."""
    return list(_Finder(text).find())


class _Finder:
    def __init__(self, text: str) -> None:
        self.text = text
        code = _ASIDE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        self.tokens = [(match[0], match.start(), match.end()) for match in _TOKEN.finditer(code)]

    def find(self) -> Iterator[Change]:
        for i, (word, start, end) in enumerate(self.tokens):
            if re.match("__sync(threads|warp)|__threadfence", word):
                yield Change(start, end, "if (!{}) ", "", "left out")
            elif (
                word in ("<", ">=", ">", "<=") and self.text[start - 1] == self.text[end] == " "
            ):  # no template's brackets
                before, after = ("", " {} +") if word in ("<", ">=") else ("+ {} ", "")
                yield Change(start, end, before, after, f"one further: {self.around(i)}")
            elif word == "if":
                yield self.condition(i)
            elif word in ("&&", "||"):
                yield from self.operands(i)
            elif word == "?":
                first = self.expression(i, -1, _BEFORE_EXPRESSION)
                yield self.wrap(first, i - 1, "(", " || {})", "always true")
            elif word in ("min", "max"):
                yield from self.bound(i)
            elif word.startswith("atomic"):
                place, value = (self.part(*argument) for argument in self.arguments(i + 1))
                plain = _ATOMIC[word.removeprefix("atomic")].format(place.removeprefix("&"), value)
                yield self.wrap(i, self.partner(i + 1), f"if ({{}}) {plain}; else ", "", "not atomic")
            elif word == "0xffffffffu":
                yield Change(start, end, "(", " >> {})", "a lane less")

    def condition(self, i: int) -> Change:
        """Of an `if`: one that leaves the kernel or the loop never does, others are always true."""
        close = self.partner(i + 1)
        follows = tuple(word for word, _, _ in self.tokens[close + 1 : close + 3])
        if follows in (("return", ";"), ("continue", ";"), ("break", ";")):
            return self.wrap(i + 2, close - 1, "!{} && (", ")", "never true")
        return self.wrap(i + 2, close - 1, "{} || (", ")", "always true")

    def operands(self, i: int) -> Iterator[Change]:
        """Those of a && b and a || b are left out: one is true, or false. Of a chain, each `&&` leaves out the right
        one, and the first the left one, too."""
        word = self.tokens[i][0]
        stops = {"||"} if word == "||" else {"&&", "||"}
        before, after = ("({} || (", "))") if word == "&&" else ("(!{} && (", "))")
        first = self.expression(i, -1, _BEFORE_EXPRESSION | stops)
        if first == 0 or self.tokens[first - 1][0] != word:
            yield self.wrap(first, i - 1, before, after, "left out")
        yield self.wrap(i + 1, self.expression(i, 1, _AFTER_EXPRESSION | stops), before, after, "left out")

    def bound(self, i: int) -> Iterator[Change]:
        """min(a, b), max(a, b): only a, only b."""
        close = self.partner(i + 1)
        for argument in self.arguments(i + 1):
            value = self.part(*argument)
            what = f"{self.part(i, close)} is {value}"
            yield Change(self.tokens[i][1], self.tokens[close][2], f"({{}} ? ({value}) : ", ")", what)

    # ---- the text by tokens
    def expression(self, i: int, step: int, stops: set[str]) -> int:
        """The last token before a stop, from token i on in this direction, past whole brackets."""
        opening, closing = ("([{", ")]}") if step > 0 else (")]}", "([{")
        depth = 0
        while True:
            word = self.tokens[i + step][0]
            if depth == 0 and (word in stops or word in closing):
                return i
            depth += (word in opening) - (word in closing)
            i += step

    def partner(self, i: int) -> int:
        """The bracket that closes the one at token i."""
        return self.expression(i, 1, set()) + 1

    def arguments(self, i: int) -> list[tuple[int, int]]:
        """The first and last token of each argument in the brackets that open at token i."""
        found = []
        while self.tokens[i][0] != ")":
            last = self.expression(i, 1, {","})
            found.append((i + 1, last))
            i = last + 1
        return found

    def part(self, first: int, last: int) -> str:
        return " ".join(self.text[self.tokens[first][1] : self.tokens[last][2]].split())

    def around(self, i: int) -> str:
        return " ".join(word for word, _, _ in self.tokens[i - 1 : i + 2])

    def wrap(self, first: int, last: int, before: str, after: str, what: str) -> Change:
        return Change(self.tokens[first][1], self.tokens[last][2], before, after, f"{what}: {self.part(first, last)}")


def with_switches(text: str, numbered: list[tuple[int, Change]]) -> str:
    """The text with all changes in it, each behind the switch of its number."""
    # At one place, what ends comes before what begins, and of two that begin, the one that ends later.
    pieces = []
    for number, change in numbered:
        switch = f"MUTANT({number})"
        pieces.append((change.end, 0, -change.start, -number, change.after.format(switch)))
        pieces.append((change.start, 1, -change.end, number, change.before.format(switch)))
    result, at = [], 0
    for place, *_, inserted in sorted(pieces):
        result += [text[at:place], inserted]
        at = place
    return "".join([*result, text[at:]])


# ---------------------------------------------------------------------------------------- the mutants
@dataclass
class Mutant:
    """A change with its file (from tinynet/ops on), and the calls that come by. outcome: of WORDS; None: not run."""

    file: str
    line: int
    text: str
    what: str
    calls: list[Call] = field(default_factory=list)
    outcome: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same when other lines change."""
        return self.file, self.text, self.what

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}\n    | {self.text}"


def mutants_of(paths: list[Path]) -> tuple[list[Mutant], dict[str, str]]:
    """All mutants; number i + 1 turns on the mutant with index i. And the text with switches of each file."""
    mutants, texts = [], {}
    for path in paths:
        text, file = path.read_text(encoding="utf-8"), path.relative_to(HEADERS).as_posix()
        found = changes(text)
        texts[path.relative_to(PACKAGE.parent).as_posix()] = with_switches(
            text, [(len(mutants) + 1 + i, change) for i, change in enumerate(found)]
        )
        for change in found:
            line = text.count("\n", 0, change.start)
            mutants.append(Mutant(file, line + 1, text.split("\n")[line].strip(), change.what))
    return mutants, texts


# In front of each file: where the switches are, an array of this process. switches[0]: the number that is turned on;
# the others: whether they were come by. It is not one of the kernel's arrays: the checks look away. The pointer is put
# into .data, because the emulator takes a file's .bss for shared arrays (see build.py), which differ between blocks.
_SWITCHES = """
__attribute__((section(".data"))) static int* const switches = (int*)strtoull(getenv("CUDA_MUTANTS"), nullptr, 10);
__attribute__((noinline, no_sanitize("thread"))) static bool MUTANT(int number) {
  switches[number] = 1;
  return switches[0] == number;
}
"""


def install(texts: dict[str, str], count: int) -> np.ndarray:
    """From now on all .cu files are compiled with switches. Returns the switches."""
    switches = np.zeros(count + 1, np.int32)
    os.environ["CUDA_MUTANTS"] = str(switches.ctypes.data)
    plain = Source.code.func

    def code(source: Source) -> str:
        pieces = re.split(r'(#line 1 "([^"]+)"\n)', plain(source))  # nothing, then for each file: line, name, text
        return _SWITCHES + "".join(line + texts[name] + "\n" for line, name in zip(pieces[1::3], pieces[2::3]))

    Source.code = property(code)
    return switches


# ---------------------------------------------------------------------------------------- the calls
@dataclass
class Call:
    """A kernel with arrays, and what the reference makes of them.

    kind: all but the case. path: the switches that it comes by. seconds: what it took without a mutant.
    """

    label: str
    kind: tuple[str, ...]
    function: object
    arrays: tuple
    parameters: dict
    changed: int
    expected: list[np.ndarray]
    dtype: str
    terms: int
    implementation: str
    seconds: float = 0
    path: bytes = b""

    def run(self, order: str) -> None:
        """Raises KernelError or AssertionError where something is wrong."""
        from op_folders import assert_close
        from test_ops import outcome

        arguments = copy.deepcopy(self.arrays) if self.changed else self.arrays
        with cusim.checked(order, seed=1):
            actual_arrays = outcome(self.function, arguments, self.parameters, self.changed)
        for actual, expected_array in zip(actual_arrays, self.expected, strict=True):
            is_nan, should_be_nan = (
                np.isnan(a) if a.dtype.kind == "f" else np.zeros(a.shape, bool) for a in (actual, expected_array)
            )
            may_be_nan = is_nan if self.kind[0] in NAN_TIMES_PADDING else should_be_nan
            assert (should_be_nan <= is_nan).all() and (is_nan <= may_be_nan).all(), self.label
            actual, expected_array = (np.where(is_nan, 0, a).astype(a.dtype) for a in (actual, expected_array))
            assert_close(actual, expected_array, self.dtype, self.terms, self.label, self.implementation)


def calls(chosen: Sequence[str]) -> Iterator[Call]:
    """Those of the chosen op folders: all implementations and dtypes."""
    from test_ops import cases_of

    for op in chosen:
        for case in cases_of(op):
            for name in case.calls:
                for layout in LAYOUTS:
                    if layout in NAN and (
                        (op, name) in NEVER_NAN or (layout == "many NaN" and op not in FIRST_NAN_WINS)
                    ):
                        continue
                    yield from calls_of(op, case, name, layout)
    if "softmax_cross_entropy" in chosen:
        yield from calls_with_targets_that_are_no_class()


def calls_of(op: str, case: Case, name: str, layout: str) -> Iterator[Call]:
    """Those of a kernel with a case's arrays, changed as the layout says: its implementations and dtypes."""
    from op_folders import cast
    from test_ops import outcome

    arrays, parameters = case.calls[name]
    arrays = map_arrays(NAN.get(layout, lambda a: a), arrays)
    changed = case.changed.get(name, 0)
    with np.errstate(all="ignore"):
        reference = implementation_kernel(op, name, "reference")
        expected = outcome(reference, copy.deepcopy(arrays), parameters, changed)
    for implementation in implementations(op, "cuda-sim"):
        function = implementation_kernel(op, name, "cuda-sim", implementation)
        for dtype in ["float32"] if implementation == "tf32" else ["float32", "float64"]:
            arguments = map_arrays(IN_MEMORY.get(layout, lambda a: a), tuple(cast(a, dtype) for a in arrays))
            kind = (op, name, implementation, dtype, layout)
            label = f"{', '.join(kind)}: {case.label}"
            yield Call(
                label, kind, function, arguments, parameters, changed, expected, dtype, case.terms, implementation
            )


def calls_with_targets_that_are_no_class() -> Iterator[Call]:
    """Of softmax_cross_entropy: what they give is NaN, and no memory outside of the arrays is read for them."""
    rng = np.random.default_rng(5)
    x, weights, gy = rng.standard_normal((5, 4)), rng.uniform(0.5, 2, 4), np.array(0.7)
    right = np.array([0, 1, 2, 3, 0])
    for wrong in (-1, 4):
        t = right.copy()
        t[0 if wrong < 0 else -1] = wrong
        for w in (None, weights):
            gx = implementation_kernel("softmax_cross_entropy", "backward", "reference")(gy, x, right, w)
            gx = np.full_like(gx, np.nan) if w is not None else np.where((t == right)[:, None], gx, np.nan)
            for name, arrays, result in (
                ("forward", (x, t, w), np.array(np.nan)),
                ("backward", (gy, x, t, w), gx),
            ):
                kind = ("softmax_cross_entropy", name, "targets that are no class")
                function = implementation_kernel("softmax_cross_entropy", name, "cuda-sim")
                yield Call(f"{kind}, {wrong}", kind, function, arrays, {}, 0, [result], "float64", 4, "default")


def sliced(a: np.ndarray) -> np.ndarray:
    """The same numbers among others: the first elements of longer rows."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] + 4) if a.ndim else (), a.dtype)
    view = wide[..., : a.shape[-1]] if a.ndim else wide
    view[...] = a
    return view


def with_nan(a: np.ndarray, count: int) -> np.ndarray:
    """The same numbers but for so many."""
    if a.dtype.kind != "f" or not a.size:
        return a
    a = a.copy()
    a.flat[np.random.default_rng(a.size).integers(a.size, size=count)] = np.nan
    return a


IN_MEMORY = {"misaligned": misaligned, "channel slices": sliced}
NAN = {"a NaN": lambda a: with_nan(a, 1), "many NaN": lambda a: with_nan(a, a.size // 3)}
LAYOUTS = ("as it is", *IN_MEMORY, *NAN)
NAN_TIMES_PADDING = {"conv2d", "conv3d", "conv_transpose2d"}  # is NaN, where the reference leaves the padding out
FIRST_NAN_WINS = {"max_pool2d", "maxout"}
NEVER_NAN = {  # a zero of the mask hides it, where the reference multiplies
    ("conv_elu_dropout", "backward"),
    ("lstm", "backward"),
}


# ---------------------------------------------------------------------------------------- running
def explore(mutants: list[Mutant], switches: np.ndarray, chosen: Sequence[str]) -> None:
    """Run each call of the chosen op folders without a mutant, and note by which it comes."""
    for call in calls(chosen):
        switches[:] = 0
        begin = time.perf_counter()
        call.run("forward")
        call.seconds = time.perf_counter() - begin
        call.path = switches[1:].tobytes()
        for i in np.flatnonzero(switches[1:]):
            mutants[i].calls.append(call)
    for mutant in mutants:
        mutant.calls = _chosen(mutant.calls)


def _chosen(calls: list[Call]) -> list[Call]:
    """The quickest of each kind and of each path; then, while there is time, the second of each kind, and so on."""
    rank: Counter[tuple] = Counter()
    paths: set[bytes] = set()
    ranked = []
    for call in sorted(calls, key=lambda call: call.seconds):
        ranked.append((rank[call.kind] if call.path in paths else 0, len(ranked), call))
        rank[call.kind] += 1
        paths.add(call.path)
    chosen, seconds = [], 0.0
    for place, _, call in sorted(ranked, key=lambda entry: entry[:2]):
        seconds += call.seconds if place else 0
        if seconds < SECONDS_FOR_MORE:
            chosen.append(call)
    return chosen


def run_all(numbered: list[tuple[int, Mutant]], switches: np.ndarray, at_once: int = 2) -> None:
    """Give each mutant its outcome."""
    running: dict[int, Mutant] = {}
    waiting = numbered[::-1]
    while waiting or running:
        if waiting and len(running) < at_once:
            number, mutant = waiting.pop()
            child = os.fork()
            if child == 0:
                switches[0] = number
                os._exit(_try(mutant))
            running[child] = mutant
        else:
            child, status = os.wait()
            ended_by = os.waitstatus_to_exitcode(status)  # negative: a signal
            running.pop(child).outcome = {-signal.SIGXCPU: ENDLESS}.get(
                ended_by, ended_by if ended_by in WORDS else FAILED
            )


def _try(mutant: Mutant) -> int:
    """Run the calls of a mutant, the quickest first, until one of them goes wrong."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    for call in mutant.calls:
        for order in ("forward", "reversed", "shuffled"):
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, resource.RLIM_INFINITY))
            try:
                call.run(order)
            except cusim.KernelError:
                return REPORTED
            except AssertionError:
                return WRONG
            except Exception:
                return FAILED
    return SURVIVED


def main(
    part: str = "", listed: frozenset[tuple[str, str, str]] = frozenset(), chosen: Sequence[str] | None = None
) -> list[Mutant]:
    """The mutants of the files with `part` in their name, with their outcomes. Those listed, by `key`, are not run.

    chosen: the op folders whose calls may notice a mutant, by default all.
    """
    mutants, texts = mutants_of(sorted([*HEADERS.rglob("*.cu"), *HEADERS.rglob("*.cuh")]))
    switches = install(texts, len(mutants))
    explore(mutants, switches, ops() if chosen is None else chosen)
    run_all([(i, m) for i, m in enumerate(mutants, start=1) if part in m.file and m.key not in listed], switches)
    return [mutant for mutant in mutants if part in mutant.file]


def tell(mutants: list[Mutant]) -> None:
    """Print how many mutants had each outcome, and the mutants that no check noticed."""
    for outcome, number in Counter(mutant.outcome for mutant in mutants).items():
        print(f"{number:4} {WORDS[outcome]}")
    for mutant in mutants:
        if mutant.outcome not in NOTICED:
            print(f"{mutant}\n    {WORDS[mutant.outcome]}" + ("" if mutant.calls else "; no call comes by"))


if __name__ == "__main__":
    from test_cuda_mutants import EQUIVALENT

    tell(main("".join(sys.argv[1:2]), frozenset(EQUIVALENT)))
