"""Where the library keeps what it fetches or makes once for a machine: jars, the Java shim."""

import os
from pathlib import Path

from pipelines.errors import EnvironmentFault


def cache_dir() -> Path:
    """`embedlake` below $XDG_CACHE_HOME, or ~/.cache where that is unset or relative; it need not exist yet.

    Raises:
        EnvironmentFault: The user has no home folder and $XDG_CACHE_HOME names none.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / "embedlake"
    try:
        return Path.home() / ".cache" / "embedlake"
    except RuntimeError as error:  # a container under a user id that nothing names
        raise EnvironmentFault(
            "this user has no home folder to cache files in", "Set XDG_CACHE_HOME to a folder it can write"
        ) from error
