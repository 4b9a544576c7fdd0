"""The process that runs a learner's code: `python -m tinynet.learn.exercises.child ID FILE SEED RESULT COURSE SECONDS`.

What it finds it writes into RESULT; nothing there means that it was ended before it was done. The learner's prints go
to the output of this process, which the parent reads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from pathlib import Path

MEMORY = 2 * 2**30  # bytes that a check may take beyond what Python and NumPy have taken already


def main(id: str, file: str, seed: str, result: str, course: str, seconds: str) -> None:
    """Check one file and write the verdict."""
    from .exercise import exercise

    this = exercise(id, Path(course))
    missing = this.missing()
    with open(result + ".trace", "w") as trace:
        limit_memory()
        # A thread of its own that needs no Python: it writes down where the code is and ends the process, whatever
        # that is busy with.
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=trace)
        verdict = checked(this, file, int(seed), missing)
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    Path(result).write_text(verdict.as_json(), encoding="utf-8")
    os._exit(0)  # threads or exit handlers of the learner's have no say any more


def checked(this, file: str, seed: int, missing: str | None):
    """The verdict on a file; what ends the learner's code early becomes a sentence."""
    from .guard import Refused, Unreadable, functions_of, line_of, where
    from .judge import judge
    from .verdict import NOT_CHECKED, NOT_WRITTEN, Verdict

    try:
        text = Path(file).read_text(encoding="utf-8")
        if is_unchanged(text, this.stub):
            return Verdict(this.id, NOT_WRITTEN, f"to be written: {', '.join(this.functions)}")
        if missing:
            return Verdict(this.id, NOT_CHECKED, missing)
        return judge(this, functions_of(text, file, this.imports), file, seed)
    except (Refused, Unreadable) as reason:
        return Verdict(this.id, NOT_CHECKED, str(reason))
    except UnicodeDecodeError as error:
        return Verdict(this.id, NOT_CHECKED, f"{file} is not a text in UTF-8 ({error.reason} at byte {error.start})")
    except SystemExit as end:
        return Verdict(this.id, NOT_CHECKED, f"{line_of(end, file)} ends the whole program; return a value instead")
    except KeyboardInterrupt as end:
        return Verdict(this.id, NOT_CHECKED, f"{line_of(end, file)}: the check was interrupted here")
    except MemoryError as error:
        limit = f"more than {MEMORY // 2**30} GiB of memory; the arrays of this check are small"
        return Verdict(this.id, NOT_CHECKED, f"{where(error, file)}: {limit}")


def is_unchanged(text: str, stub: str) -> bool:
    """Whether nothing but space and comments was changed in the stub."""
    import ast

    with contextlib.suppress(SyntaxError, ValueError):
        return ast.dump(ast.parse(text)) == ast.dump(ast.parse(stub))
    return False


def limit_memory() -> None:
    """No more address space than there is now and MEMORY; where the system knows no such limit, there is none."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(*sys.argv[1:])
