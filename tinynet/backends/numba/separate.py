"""Functions that are compiled once: `@jit(separate=True)`.

Numba copies the code of every function into each of its callers, and LLVM optimizes and translates all of it again: a
function that is called in a parallel loop is compiled five times. For a small function that is right, because it may
become a part of its caller. For the work of a whole thread it only takes time. Such a function is kept separate: the
caller holds no more than its name, and LLVM finds the code under that name when it loads the caller.

So the machine code of a caller is of use only if the functions it calls are loaded, under the names it knows. Its file
in the compile cache lists them (`needed_by`), and they are loaded before it (`are_loaded`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import binding


class Needed(NamedTuple):
    """A separate function that compiled code calls: which one, compiled for which arguments, and its name there."""

    description: str
    arguments: tuple
    symbol: str


_functions: dict[str, Any] = {}  # by description: the separate functions of this process
_compiled: dict[str, Needed] = {}  # by symbol: their code that is loaded


def keep_separate(function: Any, description: str) -> None:
    """Keep the code of a compiled function out of the code of its callers. description: the same in every process."""
    _functions[description] = function
    add = function.add_overload

    def add_overload(compiled: Any) -> None:
        library, symbol = compiled.library, compiled.fndesc.llvm_func_name
        nothing = binding.parse_assembly(str(library.codegen._create_empty_module(library.name)))
        library._get_module_for_linking = lambda: nothing
        _compiled[symbol] = Needed(description, tuple(compiled.signature.args), symbol)
        add(compiled)

    function.add_overload = add_overload


def needed_by(compiled: Any) -> list[Needed]:
    """The separate functions that this code calls."""
    declared = (f.name for f in compiled.library._final_module.functions if f.is_declaration)
    return [_compiled[name] for name in declared if name in _compiled]


def are_loaded(needed: list[Needed]) -> bool:
    """Load or compile these functions; False if one of them has another name now, or is not there at all."""
    for description, arguments, _ in needed:
        if description not in _functions:
            return False
        _functions[description].compile(arguments)
    return all(one.symbol in _compiled for one in needed)
