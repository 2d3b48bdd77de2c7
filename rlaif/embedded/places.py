"""Where this user's cache is."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for what can be made again: converted models, digests. It may not exist."""
    given = os.environ.get("RLAIF_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "rlaif"
