"""The driver's loop: gives units to encoders, takes what they finish, and deals with what goes wrong."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.cluster.nodes import Device
from pipelines.cluster.session import load_ray
from pipelines.embed.config import EmbedConfig
from pipelines.embed.engine.actors import Failure, Ready
from pipelines.embed.engine.cache import build_index
from pipelines.embed.engine.causes import dead_actor, line, unwrapped
from pipelines.embed.engine.pool import Pool, Worker
from pipelines.embed.engine.trouble import Attempt, Fault, Verdict, after
from pipelines.embed.metrics import Metrics
from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.units import Unit
from pipelines.embed.work.wire import EncoderFactory, Finished, Job
from pipelines.errors import EmbedlakeError, EnvironmentFault
from pipelines.lake.faults import is_lasting
from pipelines.progress import Progress

_LOOK_SECONDS = 2.0  # between two looks at the nodes
_DEAD_PROBES = 5  # encoders that may end, one after another, when they are given a row to see if they work
_PAUSE_SECONDS = 2.0  # before a unit whose store was unreachable is tried again


@dataclass
class _Flight:
    """A unit on its way: read by a helper, encoded, and written by the same helper."""

    attempt: Attempt
    encoder: Worker
    helper: Worker
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
    _fallen: list[tuple[_Flight, BaseException]] = field(default_factory=list)
    _doubted: deque[tuple[Attempt, Fault]] = field(default_factory=deque)
    _dead_probes: int = 0
    _number: int = 0
    _pause_until: float = 0.0
    _unreachable_since: float | None = None
    _described: bool = False
    _index: Any = None  # of a CacheIndex

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
            self.progress.say(f"texts that are embedded already are not looked up: {line(error)}")
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
                if not more and not self._flights and not self._again and not self._doubted:
                    return
                yield from self._land()
                yield from self._judged()
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
            self._flights[written] = _Flight(attempt, encoder, helper, self._number)
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
            flight.helper.load -= 1
            try:
                result = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                self._fallen.append((flight, error))
                continue
            if isinstance(result, Failure):
                self._failed(flight.attempt, flight.encoder.id, result)
            else:
                self._unreachable_since = None
                self.metrics.finished(result)
                yield result
        self._blame()

    def _blame(self) -> None:
        """What fell, in the order in which the encoders were given it: the first was the one at work.

        Ray tells it in any order, so a unit waits for those that its encoder was given before.
        """
        fallen, self._fallen = sorted(self._fallen, key=lambda pair: pair[0].number), []
        for flight, error in fallen:
            encoder, number = flight.encoder.id, flight.number
            before = any(f.encoder.id == encoder and f.number < number for f in self._flights.values())
            if before and dead_actor(error) == encoder:
                self._fallen.append((flight, error))
            else:
                self._fell(flight, error)

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
            reason = line(error)
            if not self._pool.failed_start(worker.node):
                return  # perhaps something else ended it: another try
            self.progress.say(f"a Ray node is given up, as no worker starts there: {reason}")
            if not self._pool.refresh().actors:
                raise EnvironmentFault(
                    f"no encoder starts: {reason}", "Run with --debug, and see Ray's logs on that node"
                ) from error
            return
        self._pool.seen_ready(worker)
        if is_encoder and said is not None:
            self.metrics.encoder_ready(said.hardware)
            if said.how and not self._described:
                self.progress.say(f"encoders run {said.how}")
                self._described = True

    def _fell(self, flight: _Flight, error: BaseException) -> None:
        """An actor died, or an object was lost with its node."""
        domain = unwrapped(error)
        if isinstance(domain, EmbedlakeError):
            raise domain from error
        dead = dead_actor(error)
        fault = Fault.LOST
        if dead == flight.encoder.id and "node has died" not in str(error):
            # It died over the unit that it was at; those behind it come here when it is forgotten already.
            fault = Fault.CRASHED if dead in self._pool.encoders else Fault.LOST
        if dead is not None:
            self._pool.drop(dead)
        self._decided(flight.attempt, flight.encoder.id, fault, line(error))

    def _failed(self, attempt: Attempt, worker: str, failure: Failure) -> None:
        if failure.fault is None:
            raise failure.error or EnvironmentFault(failure.detail)
        if failure.fault is Fault.UNREACHABLE:
            now = time.monotonic()
            self._unreachable_since = self._unreachable_since or now
            too_long = now - self._unreachable_since > self.config.patience_seconds
            if failure.error and (too_long or is_lasting(failure.error)):
                raise failure.error
            self._pause_until = now + _PAUSE_SECONDS
        if failure.fault is Fault.GONE:
            self.gone = failure.error
        self._decided(attempt, worker, failure.fault, failure.detail)

    def _decided(self, attempt: Attempt, worker: str, fault: Fault, detail: str) -> None:
        self.metrics.retried(fault.value)
        verdict, attempts = after(attempt, fault, detail, worker)
        if verdict is Verdict.GIVE_UP:
            raise EnvironmentFault(
                f"a unit was lost again and again: {detail}", "See Ray's logs; what was committed is kept"
            )
        if verdict is Verdict.REJECT:
            self._doubted.append((attempts[0], fault))
        else:
            self._again.extend(attempts)

    def _judged(self) -> Iterator[Finished]:
        """The last row of a unit that kept failing becomes a reject, if an encoder works at all."""
        while self._doubted:
            encoder = self._pool.idle(10**9)
            helper = self._pool.helper(encoder.node) if encoder else None
            if encoder is None or helper is None:
                return  # it has ended the only encoder: the next one tells
            attempt, fault = self._doubted[0]
            try:
                row = self._ray.get(helper.handle.probe_row.remote())
                wrong = self._ray.get(encoder.handle.probe.remote(row))
                if wrong:
                    raise _useless(f"fails whatever it is given: {wrong}")
                result = self._ray.get(helper.handle.refuse.remote(attempt.unit, fault.value, attempt.detail))
            except self._ray.exceptions.RayError as error:
                self._dead_probes += 1
                if self._dead_probes >= _DEAD_PROBES:
                    raise _useless(f"ends whatever it is given: {line(error)}") from error
                dead = dead_actor(error)
                if dead is not None:
                    self._pool.drop(dead)
                return
            self._dead_probes = 0
            self._doubted.popleft()
            if isinstance(result, Failure):
                self._failed(attempt, encoder.id, result)
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


def _useless(what: str) -> EnvironmentFault:
    hint = "See Ray's logs on the node that it runs on; what was committed is kept"
    return EnvironmentFault(f"the encoder {what}", hint)
