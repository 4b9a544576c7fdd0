"""prelu on a GPU: the definition, on arrays there."""

from __future__ import annotations

from . import reference

forward, backward = reference.forward.definition, reference.backward.definition
