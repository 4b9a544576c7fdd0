"""The process that runs a learner's code: `python -m tinynet.learn.exercises.child ID FILE SEED RESULT COURSE SECONDS`.

It writes the verdict into RESULT. If RESULT is empty, the process was ended before the check was done. What the learner
prints goes to the output of this process, which the parent reads.
"""

from __future__ import annotations

import ast
import contextlib
import faulthandler
import os
import sys
from pathlib import Path

from .exercise import Exercise, exercise
from .guard import Refused, Unreadable, functions_of, line_of, where
from .judge import judge
from .verdict import NOT_CHECKED, NOT_WRITTEN, Verdict

MEMORY = 2 * 2**30  # bytes that a check may use in addition to what Python and NumPy use at its start


def main(id: str, file: str, seed: str, result: str, course: str, seconds: str) -> None:
    """Check one file and write the verdict."""
    this = exercise(id, Path(course))
    missing = this.missing()
    with open(result + ".trace", "w") as trace:
        limit_memory()
        # A thread that does not need Python: it writes the current line and ends the process, even in compiled code.
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=trace)
        verdict = checked(this, file, int(seed), missing)
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    Path(result).write_text(verdict.as_json(), encoding="utf-8")
    os._exit(0)  # do not wait for the learner's threads and exit handlers


def checked(this: Exercise, file: str, seed: int, missing: str | None) -> Verdict:
    """The verdict on a file. If something ends the learner's code early, the verdict says what."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        if is_unchanged(text, this.stub):
            return Verdict(this.id, NOT_WRITTEN, f"to be written: {', '.join(this.functions)}")
        if missing:
            return Verdict(this.id, NOT_CHECKED, missing)
        return judge(this, functions_of(text, file, this.imports), file, seed)
    except (Refused, Unreadable) as reason:
        why = str(reason)
    except UnicodeDecodeError as error:
        why = f"{file} is not a text in UTF-8 ({error.reason} at byte {error.start})"
    except SystemExit as end:
        why = f"{line_of(end, file)} ends the whole program; return a value instead"
    except KeyboardInterrupt as end:
        why = f"{line_of(end, file)}: the check was interrupted here"
    except MemoryError as error:
        why = f"{where(error, file)}: more than {MEMORY // 2**30} GiB of memory; the arrays of this check are small"
    return Verdict(this.id, NOT_CHECKED, why)


def is_unchanged(text: str, stub: str) -> bool:
    """True if only whitespace and comments of the stub were changed."""
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.dump(ast.parse(text)) == ast.dump(ast.parse(stub))
    return False


def limit_memory() -> None:
    """Limit the address space to its present size plus MEMORY. Systems without such a limit are left as they are."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(*sys.argv[1:])
