"""The Ray Data pipeline: units in, written units out, as they finish.

A unit is one row from end to end, and one block of its own: Ray's handling of blocks can neither split a unit
nor join two, and each is retried, queued and lost alone.
"""

import importlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.embed.config import EmbedConfig
from pipelines.embed.encode import UnitEncoder
from pipelines.embed.plan import PendingUnit
from pipelines.embed.read import read_unit
from pipelines.embed.session import load_ray
from pipelines.embed.shape import IO_CPUS, Shape
from pipelines.embed.work import Finished, Job, UnitRows, one
from pipelines.embed.write import write_unit
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import EmbedlakeError
from pipelines.lake.faults import explained

Batch = dict[str, Any]


def finished_units(
    job: Job, units: Sequence[PendingUnit], shape: Shape, config: EmbedConfig
) -> Iterator[Finished]:
    """Runs units through Ray and yields each as soon as it is written, in no particular order.

    Ray must be connected. Units in flight are bounded: each encoder works on one and has `units_ahead`
    waiting, readers and writers have their number, and what waits between them fits Ray's object store.

    Raises:
        EmbedlakeError: What a task raised, as it raised it; others come as Ray's RayTaskError.
    """
    ray = load_ray()
    data = importlib.import_module("ray.data")
    # It logs each exception with three tracebacks, and raises it besides.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    context.execution_options.preserve_order = False
    # A unit of 50,000 long chunks takes one CPU core longer than the 30 minutes after which Ray gives up.
    context.execution_no_progress_timeout_s = -1
    one_row: dict[str, Any] = {"batch_size": 1, "batch_format": "numpy"}
    labels = {"label_selector": config.label_selector} if config.label_selector else {}
    with data.DataContext.current(context):
        # A block a unit: from_items would else make a few, and a task would run many units in a row.
        items = data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
        # Actors to read and write too: a task's idle process is ended after a second where encoders hold all
        # CPUs, and each new one takes 5 CPU seconds to import what it needs (the demo: 70 of 215).
        read = items.map_batches(
            _Read,
            fn_constructor_kwargs={"job": job},
            num_cpus=IO_CPUS,
            compute=data.ActorPoolStrategy(size=shape.readers, max_tasks_in_flight_per_actor=1),
            **one_row,
        )
        encoded = read.map_batches(
            _Encode,
            fn_constructor_kwargs={"job": job, "device": shape.device, "threads": shape.threads},
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            compute=data.ActorPoolStrategy(
                size=shape.actors, max_tasks_in_flight_per_actor=1 + config.units_ahead
            ),
            **one_row,
            **labels,
        )
        written = encoded.map_batches(
            _Write,
            fn_constructor_kwargs={"job": job},
            num_cpus=IO_CPUS,
            compute=data.ActorPoolStrategy(size=shape.writers, max_tasks_in_flight_per_actor=1),
            **one_row,
        )
        try:
            # No prefetching: it would hold each unit back until the next one is there.
            for batch in written.iter_batches(prefetch_batches=0, **one_row):
                yield batch["finished"][0]
        except ray.exceptions.RayError as error:
            raise unwrapped(error) from error


def unwrapped(error: BaseException) -> BaseException:
    """The domain error that a worker raised, out of Ray's wrappings; `error` itself where there is none."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, EmbedlakeError):
            # Ray's wrapper is a class made from the error's and its own: give the plain one back.
            cause = getattr(link, "cause", None)
            return cause if isinstance(cause, EmbedlakeError) else link
        link = getattr(link, "cause", None) or link.__cause__ or link.__context__
    return error


class _Read:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._tokenizer = Tokenizer.load(job.conf)

    def __call__(self, batch: Batch) -> Batch:
        with explained(self._job.lake):
            return read_unit(self._job, batch["unit"][0], self._tokenizer).to_batch()


class _Encode:
    def __init__(self, job: Job, device: str, threads: int | None) -> None:
        self._encoder = UnitEncoder.load(job, device, threads)

    def __call__(self, batch: Batch) -> Batch:
        return self._encoder.encode(UnitRows.from_batch(batch)).to_batch()


class _Write:
    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, batch: Batch) -> Batch:
        with explained(self._job.lake):
            return {"finished": one(write_unit(self._job, UnitRows.from_batch(batch)))}
