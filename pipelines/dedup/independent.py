"""The lexicographically first maximal independent set: who is kept of documents that resemble one another."""

from collections import deque

import numpy as np
import numpy.typing as npt


def first_independent_set(
    count: int, earlier: npt.NDArray[np.int64], later: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which of `count` documents are kept, if each is kept unless it resembles an earlier kept one.

    The set depends on the edges alone: whatever order they are given in, a document waits for all earlier
    ones that it resembles. Linear in the edges.

    Args:
        count: Documents, numbered from 0.
        earlier: Of each edge, the document of higher priority.
        later: The other one. The edges have no cycle.

    Returns:
        x_D, True where kept. No edge joins two kept documents, and every other one has a kept neighbour
        before it.
    """
    order = np.argsort(earlier, kind="stable")
    targets = later[order].tolist()
    begins = np.searchsorted(earlier[order], np.arange(count + 1)).tolist()
    waiting_for = np.bincount(later, minlength=count).tolist()
    is_kept, is_decided = [False] * count, [False] * count
    ready = deque(at for at in range(count) if not waiting_for[at])
    while ready:
        document = ready.popleft()
        if is_decided[document]:
            continue
        is_kept[document] = is_decided[document] = True
        for removed in targets[begins[document] : begins[document + 1]]:
            if is_decided[removed]:
                continue
            is_decided[removed] = True
            for freed in targets[begins[removed] : begins[removed + 1]]:
                waiting_for[freed] -= 1
                if not waiting_for[freed] and not is_decided[freed]:
                    ready.append(freed)
    return np.array(is_kept, np.bool_)
