"""Batches on their way to the device: collated and copied while the batch before them is computed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch

from pipelines.encoder.backends.base import Batch

T = TypeVar("T")


def prefetched(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, each made in a thread while the caller works on the one before.

    What making an item raises is raised where the item is asked for.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(next, iterator, end)
        while (item := ahead.result()) is not end:
            ahead = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]  # it is not `end`


def on_device(batches: Iterable[Callable[[], Batch]], device: torch.device) -> Iterator[Batch]:
    """Batches on the device, in order.

    Args:
        batches: Each makes one batch, on the host.
        device: Of the model. On a CPU nothing is copied, and no thread takes a core from the computation.
    """
    if device.type == "cpu":
        yield from (make() for make in batches)
    elif device.type == "cuda":
        yield from _on_cuda(batches, device)
    else:
        yield from (_moved(make(), device) for make in batches)


def _on_cuda(batches: Iterable[Callable[[], Batch]], device: torch.device) -> Iterator[Batch]:
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied() -> Iterator[tuple[Batch, torch.cuda.Event]]:
        for make in batches:
            batch = make()
            # Only pinned memory is copied without the host waiting; PyTorch keeps it until the copy is done.
            pinned = replace(batch, ids=batch.ids.pin_memory(), lengths_B=batch.lengths_B.pin_memory())
            with torch.cuda.stream(side):
                moved = _moved(pinned, device)
            yield moved, side.record_event()

    for batch, arrived in prefetched(copied()):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(arrived)
        for tensor in (batch.ids, batch.lengths_B):
            tensor.record_stream(computing)  # its memory is the other stream's, and must outlive this
        yield batch


def _moved(batch: Batch, device: torch.device) -> Batch:
    return replace(
        batch,
        ids=batch.ids.to(device, non_blocking=True),
        lengths_B=batch.lengths_B.to(device, non_blocking=True),
    )
