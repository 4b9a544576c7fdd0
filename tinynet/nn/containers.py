"""ModuleList and ModuleDict: modules in a list or a dict.

A plain list or dict as an attribute works as well; these refuse what is no module, and are modules themselves.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Iterator
from typing import Any

from .module import Module


class ModuleList(Module):
    """Modules in a list, with `len`, iteration, indexing and slices. It has no forward: call the modules in yours."""

    _prefix = "layers."  # plain numbers as names: `0.weight`, not `layers.0.weight`

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.layers: list[Module] = []
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end. Returns the list. Raises TypeError for anything else."""
        self.layers.append(_checked(self, f"argument {len(self)}", module))
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end. Returns the list."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        return self._part(self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __setitem__(self, index: int, module: Module) -> None:
        self.layers[index] = _checked(self, f"item {index}", module)

    def _part(self, layers: list[Module]) -> Module:
        return ModuleList(layers)


class ModuleDict(Module, UserDict):
    """Modules in a dict, by names without dots. It has no forward: call the modules in yours."""

    _prefix = "data."  # UserDict keeps the entries there
    __eq__, __hash__ = object.__eq__, object.__hash__  # a module is equal to itself only, like every module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(name, str) or "." in name:
            raise ValueError(f"ModuleDict: the name {name!r} must be a text without dots")
        super().__setitem__(name, _checked(self, f"entry {name!r}", module))


def _checked(owner: Module, what: str, module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"{type(owner).__name__}: {what} is a {type(module).__name__}, a Module is needed")
    return module
