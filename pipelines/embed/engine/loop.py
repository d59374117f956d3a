"""The driver's loop: gives units to encoders, takes what they finish, and deals with what goes wrong."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.embed.config import EmbedConfig
from pipelines.embed.engine.actors import Failure, Ready
from pipelines.embed.engine.cache import build_index
from pipelines.embed.engine.nodes import Device
from pipelines.embed.engine.pool import Pool, Worker
from pipelines.embed.engine.session import load_ray
from pipelines.embed.engine.trouble import Attempt, Fault, Verdict, after
from pipelines.embed.metrics import Metrics
from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.units import Unit
from pipelines.embed.work.wire import EncoderFactory, Finished, Job
from pipelines.errors import EmbedlakeError, EnvironmentFault
from pipelines.progress import Progress

_LOOK_SECONDS = 2.0  # between two looks at the nodes
_PAUSE_SECONDS = 2.0  # before a unit whose store was unreachable is tried again


@dataclass
class _Flight:
    """A unit on its way through three actors."""

    attempt: Attempt
    encoder: Worker
    helpers: tuple[Worker, Worker]
    number: int  # of its flight: the lowest on an encoder is the one that it works on


@dataclass
class Engine:
    """Runs units; Ray must be connected.

    Attributes:
        job: What the workers must know.
        factory: Makes the model in an encoder.
        config: How.
        device: On what.
        progress: Told what nobody could guess: nodes given up, waiting.
        metrics: Kept up to date.
        gone: Says which file of `chunks` is gone, where one is: a new plan finds its rows.
    """

    job: Job
    factory: EncoderFactory
    config: EmbedConfig
    device: Device
    progress: Progress
    metrics: Metrics
    gone: EmbedlakeError | None = None
    _flights: dict[Any, _Flight] = field(default_factory=dict)
    _again: deque[Attempt] = field(default_factory=deque)
    _number: int = 0
    _pause_until: float = 0.0
    _unreachable_since: float | None = None
    _described: bool = False
    _index: Any = None  # of a CacheIndex
    _suspects: set[int] = field(default_factory=set)  # flights over which an encoder died

    def __post_init__(self) -> None:
        self._ray = load_ray()
        self._pool = Pool(self.job, self.factory, self.config, self.device)

    def use_cache(self, plan: Plan) -> None:
        """Looks for texts that the model has embedded; what fails there costs only their being done anew."""
        self._pool.refresh()
        starting = {ref: worker for ref, worker in self._pool.starting() if worker.id in self._pool.helpers}
        try:
            if starting:
                ready, _ = self._ray.wait(list(starting), num_returns=len(starting), timeout=60)
                for ref in ready:
                    self._started(ref, starting[ref])
            index = build_index(self._pool, plan, self.progress)
        except (EmbedlakeError, self._ray.exceptions.RayError) as error:
            self.progress.say(f"texts that are embedded already are not looked up: {_line(error)}")
            return
        self._index = None if index is None else self._ray.put(index)

    def run(self, units: Iterator[Unit]) -> Generator[Finished]:
        """Yields each unit, or part of one, as soon as it is written, in no particular order.

        Units in flight are bounded: each encoder has one in work, `units_ahead` waiting and one being
        written, so what is between them fits Ray's object store.

        Raises:
            EnvironmentFault: No node has what an encoder needs; encoders fail whatever they are given.
            EmbedlakeError: The first that a worker has raised and that no repetition can mend.
        """
        looked = None
        alone_since = time.monotonic()
        try:
            while True:
                now = time.monotonic()
                if looked is None or now - looked >= _LOOK_SECONDS:
                    looked, placement = now, self._pool.refresh()
                    alone_since = alone_since if not placement.actors else now
                    if now - alone_since >= self.config.node_wait_seconds:
                        raise self._nobody()
                more = self._submit(units)
                if not more and not self._flights and not self._again:
                    return
                yield from self._land()
        finally:
            self._flights.clear()
            self._pool.close()

    def _submit(self, units: Iterator[Unit]) -> bool:
        """Gives encoders what they can take; whether there may be more."""
        most = 2 + self.config.units_ahead
        while time.monotonic() >= self._pause_until:
            avoid = self._again[0].avoid if self._again else frozenset()
            encoder = self._pool.idle(most, avoid)
            helper = self._pool.helper(encoder.node) if encoder else None
            if encoder is None or helper is None:
                return True
            if self._again:
                attempt = self._again.popleft()
            else:
                unit = next(units, None)
                if unit is None:
                    return False
                attempt = Attempt(unit)
            read = helper.handle.read.remote(attempt.unit, self._index)
            encoded = encoder.handle.encode.remote(read)
            written = helper.handle.write.remote(encoded)
            self._number += 1
            self._flights[written] = _Flight(attempt, encoder, (helper, helper), self._number)
            encoder.load += 1
            helper.load += 1
        return True

    def _land(self) -> Iterator[Finished]:
        """Waits a little for actors that become ready and units that are written."""
        starting = dict(self._pool.starting())
        self.metrics.set_flight(len(self._flights), len(self._pool.encoders) - self._not_ready(starting))
        waiting = [*self._flights, *starting]
        if not waiting:
            time.sleep(0.2)
            return
        done, _ = self._ray.wait(waiting, num_returns=1, timeout=0.5)
        if done:  # and all that are done by now with it
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for ref in done:
            if ref in starting:
                self._started(ref, starting[ref])
                continue
            flight = self._flights.pop(ref)
            flight.encoder.load -= 1
            flight.helpers[0].load -= 1
            try:
                result = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                yield from self._fell(flight, error)
                continue
            if isinstance(result, Failure):
                yield from self._failed(flight, result)
            else:
                self._unreachable_since = None
                self.metrics.finished(result)
                yield result

    def _not_ready(self, starting: dict[Any, Worker]) -> int:
        return sum(worker.id in self._pool.encoders for worker in starting.values())

    def _started(self, ref: Any, worker: Worker) -> None:
        is_encoder = worker.id in self._pool.encoders
        try:
            said: Ready | None = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._pool.drop(worker.id)
            domain = unwrapped(error)
            if isinstance(domain, EmbedlakeError):
                raise domain from error
            if "node has died" in str(error) or "node died" in str(error).lower():
                return  # the next look at the nodes forgets it
            reason = _line(error)
            if not self._pool.failed_start(worker.node, reason):
                return  # perhaps something else ended it: another try
            self.progress.say(f"a Ray node is given up, as no worker starts there: {reason}")
            if not self._pool.refresh().actors:
                raise EnvironmentFault(
                    f"no encoder starts: {reason}", "Run with --debug, and see Ray's logs on that node"
                ) from error
            return
        self._pool.seen_ready(worker, said)
        if is_encoder and said is not None:
            self.metrics.encoder_ready(said.hardware)
            if said.how and not self._described:
                self.progress.say(f"encoders run {said.how}")
                self._described = True

    def _fell(self, flight: _Flight, error: BaseException) -> Iterator[Finished]:
        """An actor died, or an object was lost with its node."""
        domain = unwrapped(error)
        if isinstance(domain, EmbedlakeError):
            raise domain from error
        dead = _dead_actor(error)
        fault = Fault.LOST
        if dead in self._pool.encoders and "node has died" not in str(error):
            # It died over the unit that it was at: the first that it was given of those still on their way,
            # of which this need not be the one that is seen first.
            flights = [flight, *self._flights.values()]
            self._suspects.add(min(f.number for f in flights if f.encoder.id == dead))
        if dead is not None:
            self._pool.drop(dead)
        if flight.number in self._suspects:
            fault = Fault.CRASHED
        yield from self._decided(flight, fault, _line(error))

    def _failed(self, flight: _Flight, failure: Failure) -> Iterator[Finished]:
        if failure.fault is None:
            raise failure.error or EnvironmentFault(failure.detail)
        if failure.fault is Fault.UNREACHABLE:
            now = time.monotonic()
            self._unreachable_since = self._unreachable_since or now
            if now - self._unreachable_since > self.config.patience_seconds and failure.error:
                raise failure.error
            self._pause_until = now + _PAUSE_SECONDS
        if failure.fault is Fault.GONE:
            self.gone = failure.error
        yield from self._decided(flight, failure.fault, failure.detail)

    def _decided(self, flight: _Flight, fault: Fault, detail: str) -> Iterator[Finished]:
        self.metrics.retried(fault.value)
        verdict, attempts = after(flight.attempt, fault, detail, flight.encoder.id)
        if verdict is Verdict.GIVE_UP:
            raise EnvironmentFault(
                f"a unit was lost again and again: {detail}", "See Ray's logs; what was committed is kept"
            )
        if verdict is Verdict.REJECT:
            yield from self._refused(attempts[0], flight, fault)
        else:
            self._again.extend(attempts)

    def _refused(self, attempt: Attempt, flight: _Flight, fault: Fault) -> Iterator[Finished]:
        """One row is left of a unit that kept failing: it becomes a reject, if the encoder works at all."""
        encoder, helper = self._pool.idle(10**9), self._pool.helper(flight.encoder.node)
        if encoder is None or helper is None:  # all have just died: another try tells
            self._again.append(attempt)
            return
        try:
            row = self._ray.get(helper.handle.probe_row.remote())
            wrong = self._ray.get(encoder.handle.probe.remote(row))
            if wrong:
                raise EnvironmentFault(
                    f"the encoder fails whatever it is given: {wrong}",
                    "See Ray's logs on the node that it runs on; what was committed is kept",
                )
            result = self._ray.get(helper.handle.refuse.remote(attempt.unit, fault.value, attempt.detail))
        except self._ray.exceptions.RayError:
            self._again.append(attempt)
            return
        if isinstance(result, Failure):
            yield from self._failed(flight, result)
        else:
            self.metrics.finished(result)
            yield result

    def _nobody(self) -> EnvironmentFault:
        what = f"{self.config.gpus_per_actor:g} GPU" if self.device == "cuda" else "a CPU"
        labels = ", ".join(f"{key}={value}" for key, value in (self.config.label_selector or {}).items())
        wanted = f"{what} and the labels {labels}" if labels else what
        return EnvironmentFault(
            f"no Ray node has {wanted} for an encoder, after {self.config.node_wait_seconds:g} s",
            "Set embed.device, embed.gpus_per_actor or embed.label_selector to what the cluster has; for one "
            "that grows on demand set embed.actors, and embed.node_wait_seconds to how long that may take",
        )


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


def _dead_actor(error: BaseException) -> str | None:
    link: BaseException | None = error
    while link is not None:
        found = getattr(link, "actor_id", None)
        if found:
            return str(found if isinstance(found, str) else found.hex())
        link = getattr(link, "cause", None) or link.__cause__
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
