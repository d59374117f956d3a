"""How some catalogues say that another commit came first."""

from pyiceberg.exceptions import CommitFailedException

# Each commit to a table takes the next sequence number, on whatever branch it is. Of two at once on two
# branches neither finds its branch changed. SeaweedFS answers the second with 400, as a malformed request,
# and pyiceberg's own catalogues raise a ValueError.
_BEHIND = "add snapshot with sequence number"


def is_behind(error: BaseException) -> bool:
    """Whether a commit was refused because one to another branch of the table took its sequence number."""
    return _BEHIND in str(error)


def is_lost(error: BaseException) -> bool:
    """Whether pyiceberg was refused a commit because another came first, to its branch or another one."""
    return isinstance(error, CommitFailedException) or is_behind(error)
