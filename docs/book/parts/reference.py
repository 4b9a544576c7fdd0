"""The reference: every public name."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import tinynet

from .pages import Site, toctree

NAMESPACES = (  # beside tinynet itself: the modules whose names a user writes
    *("nn", "nn.init", "optim", "train", "io", "data", "metrics", "segment", "instances", "viz", "boxes"),
    *("registration", "random", "cuda", "cusim"),
)


def reference(site: Site) -> None:
    """Every public name, by the module it is documented in."""
    names: list[str] = []
    documented: set[int] = set()
    for title in ("tinynet", *(f"tinynet.{name}" for name in NAMESPACES)):
        module = tinynet if title == "tinynet" else operator.attrgetter(title.removeprefix("tinynet."))(tinynet)
        directives = []
        for name in _public(module):
            value = inspect.unwrap(getattr(module, name))
            is_here = (getattr(value, "__module__", None) or "").startswith(module.__name__)
            if is_here and id(value) not in documented and callable(value):
                directives.append(_directive(title, name, value))
                if name == value.__name__:
                    documented.add(id(value))
        about = inspect.cleandoc(module.__doc__ or "").partition("\n")[0]
        body = "\n".join(directives)
        site.add(f"reference/{title}", f"# {title}\n\n{about}\n\n```{{eval-rst}}\n{body}\n```")
        names.append(f"reference/{title}")
    rows = "\n".join(f"- [{name.partition('/')[2]}]({name}.md)" for name in names)
    site.add("reference", f"# Reference\n\nEvery public name, from its docstring.\n\n{rows}\n\n{toctree(names)}")


def _public(module: object) -> list[str]:
    listed = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    return sorted(listed, key=str.lower)


def _directive(module: str, name: str, value: Any) -> str:
    """The directive that shows the docstring of a class or function; one line for another name of it."""
    if name != value.__name__:
        return f"``{module}.{name}`` is another name of ``{value.__name__}``.\n"
    members = "\n   :members:" if inspect.isclass(value) else ""
    return f".. {'autoclass' if inspect.isclass(value) else 'autofunction'}:: {module}.{name}{members}\n"
