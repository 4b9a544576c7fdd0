"""Where tinynet keeps what it can make or fetch again: compiled kernels and downloads."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The environment variable TINYNET_CACHE, or else `tinynet` in the user's cache folder. It may not exist yet."""
    chosen = os.environ.get("TINYNET_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("tinynet"))
