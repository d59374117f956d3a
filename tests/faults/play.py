"""Plays one schedule: drivers run, faults come at their moments, and in the end every row is looked at."""

import contextlib
import queue
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from pipelines.embed.config import EmbedConfig
from pipelines.embed.plan.survey import survey
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake, LakeConfig
from tests.chunks import ChunkText, append_chunks, corpus, sentence
from tests.faults import changes
from tests.faults.check import wrong
from tests.faults.cluster import LABELS, FaultyCluster
from tests.faults.driver import FAILED, Arguments
from tests.faults.drivers import Driver, Drivers, Spare, Told
from tests.faults.model import WORDS, model_conf, poison_ids
from tests.faults.outages import Outage
from tests.faults.schedule import CHANGES, Event, Fault, Kind, Schedule, is_outage

_UNIT_SECONDS = 0.05
_MOST_STARTS = 15
_MOST_SECONDS = 180.0


@dataclass
class Result:
    """How a seed ended.

    Attributes:
        wrong: What is lost, doubled, stale or false; nothing where it is exact.
        seconds: How long it took.
        starts: Drivers started.
        reached: Faults that came; moments of the others never did.
        chunks: In the end.
        endings: How drivers ended that were not killed and did not succeed.
    """

    wrong: list[str]
    seconds: float
    starts: int
    reached: int
    chunks: int
    endings: list[str]


@dataclass
class Play:
    """One seed on its way.

    Attributes:
        schedule: What to do.
        config: Of an empty lake.
        cluster: Of Ray.
        outage: What can be away.
        spare: Where drivers come from.
        folder: For its small files.
        say: Told everything, where somebody wants it.
    """

    schedule: Schedule
    config: LakeConfig
    cluster: FaultyCluster
    outage: Outage
    spare: Spare
    folder: Path
    say: Callable[[str], None]
    _seen: "Counter[Event]" = field(default_factory=Counter)
    _endings: list[str] = field(default_factory=list)
    _reached: int = 0
    _back_at: float | None = None
    _last_ok: bool = False
    _due: list[tuple[float, Fault]] = field(default_factory=list)
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=12))

    def run(self) -> Result:
        """Plays it to its end."""
        began = self._began = time.monotonic()
        self.cluster.settle(self.schedule.helper_node)
        self._conf = model_conf()
        self._tokenizer = Tokenizer.load(self._conf)
        self._model = describe_model(self._conf).key
        self._lake = Lake.open(self.config)
        append_chunks(self._lake, self._corpus(), self._tokenizer, self.schedule.rows_per_file)
        self._left = list(self.schedule.faults)
        self._tally = self.folder / "tally"
        self._tally.touch()
        self._drivers = Drivers(self._arguments(), self.spare)
        try:
            self._drivers.start()
            self._until_done()
        except TimeoutError as error:
            found = [str(error), *self._drivers.where(), *self._last]
        else:
            found = wrong(self._lake, self._model, self._tokenizer, self._conf.max_tokens)
        finally:
            self._drivers.close()
            self.outage.end()
        chunks = self._lake.table("chunks").scan().count()
        return Result(
            found,
            time.monotonic() - began,
            self._drivers.started,
            self._reached,
            chunks,
            self._endings,
        )

    def _corpus(self) -> list[ChunkText]:
        schedule, chunks = self.schedule, corpus(self.schedule.documents)
        # Equal texts, whose vectors are copied: in one document, in one source and in the other.
        chunks += [
            ChunkText(chunk.source, chunks[number * 3].doc_id, chunk.text, 9)
            for number, chunk in enumerate(chunks[:60:4])
            if chunk.source == chunks[number * 3].source
        ]
        for effect, count in schedule.poison.items():
            for number in range(count):
                doc_id, text = f"doc-{effect.replace(' ', '-')}-{number}", f"{sentence(number)} {effect}"
                if effect == "bad ids":
                    chunks.append(ChunkText("notes", doc_id, text, ids=(2023, 10**6, 2024)))
                elif effect == "too long":
                    chunks.append(ChunkText("manual", doc_id, text, ids=(2023,) * 600))
                else:
                    chunks.append(ChunkText("notes", doc_id, f"{text} {WORDS[effect]} {number}."))
        return chunks

    def _arguments(self) -> Arguments:
        embed = EmbedConfig(
            device="cuda",
            actors=2,
            label_selector=LABELS,
            unit_tokens=self.schedule.unit_tokens,
            commit_units=self.schedule.commit_units,
            commit_seconds=2.0,
            node_wait_seconds=60.0,
            patience_seconds=30.0,
        )
        return Arguments(
            lake=self.config.model_dump_json(),
            address=self.cluster.address,
            embed=embed.model_dump_json(),
            tally=str(self._tally),
            seconds=_UNIT_SECONDS,
            poison=poison_ids(self._tokenizer),
        )

    # ------------------------------------------------------------- the loop

    def _until_done(self) -> None:
        while True:
            if time.monotonic() - self._began > _MOST_SECONDS:
                raise TimeoutError(f"not done after {_MOST_SECONDS:g} s")
            with contextlib.suppress(queue.Empty):
                self._hear(self._drivers.told.get(timeout=0.03))
            self._count_units()
            now = time.monotonic()
            if self._back_at is not None and now >= self._back_at:
                self._bring_back()
            for due in [due for due in self._due if due[0] <= now]:
                self._due.remove(due)
                self._do(due[1], None)
            if not self._drivers.alive and self._is_over():
                return

    def _is_over(self) -> bool:
        """With no driver at work: whether all is done; starts another where it is not."""
        for fault in [fault for _, fault in self._due] if self._last_ok else []:
            self._do(fault, None)
        self._due = [] if self._last_ok else self._due
        if self._last_ok:
            rest = [fault for fault in self._left if fault.kind in CHANGES]
            for fault in rest[:1]:
                self._left.remove(fault)
                self._do(fault, None)
            if not rest:
                self._bring_back()
                plan = survey(self._lake, self._model)
                if not (plan.pending_rows or plan.stale or plan.doubled):
                    return True
        if self._drivers.started >= _MOST_STARTS:
            raise TimeoutError(f"not done after {_MOST_STARTS} starts")
        self._drivers.start()
        return False

    def _hear(self, told: Told) -> None:
        driver = told.driver
        if told.event is not None:
            self.spare.prepare()
            self._happened(told.event, told)
        elif told.line is not None:
            self._tell(f"driver {driver.number}: {told.line}")
            self._last_line = told.line
        elif driver in self._drivers.alive:
            self._drivers.alive.remove(driver)
            code = driver.process.returncode
            self._last_ok = code == 0
            self._tell(f"driver {driver.number} ended with {code}")
            if code != 0 and not driver.killed:
                self._endings.append(
                    f"{self._last_line[-200:]}" if code in (1, FAILED) else f"exit status {code}"
                )

    def _count_units(self) -> None:
        while self._seen[Event.ENCODING] < self._tally.stat().st_size:
            self._happened(Event.ENCODING, None)

    def _happened(self, event: Event, told: Told | None) -> None:
        self._seen[event] += 1
        due = [f for f in self._left if f.event is event and f.count == self._seen[event]]
        later = [fault for fault in due if not fault.held]
        for fault in due:
            self._left.remove(fault)
            if fault.held:
                self._do(fault, told.driver if told else None)
        if told is not None:
            told.driver.release(told.ticket)
        now = time.monotonic()
        self._due += [(now + (0 if is_outage(f.kind) else f.seconds), f) for f in later]

    # ----------------------------------------------------------- the faults

    def _do(self, fault: Fault, driver: Driver | None) -> None:
        self._reached += 1
        random = Random(f"{self.schedule.seed}/{fault}")
        lake, share = self._lake, fault.share
        how: object = ""
        if fault.kind in CHANGES or fault.kind is Kind.SECOND_DRIVER:
            self._bring_back()
        match fault.kind:
            case Kind.KILL_DRIVER:
                victims = [driver] if driver else self._drivers.alive
                for victim in victims[:1]:
                    victim.kill()
            case Kind.SECOND_DRIVER:
                self._drivers.start()
            case Kind.KILL_ENCODER:
                how = self.cluster.kill_worker("EncoderActor", share)
            case Kind.KILL_HELPER:
                how = self.cluster.kill_worker("HelperActor", share)
            case Kind.LOSE_NODE:
                how = self.cluster.lose(share)
                self.cluster.settle(self.schedule.helper_node)
            case Kind.STORE_AWAY | Kind.CATALOGUE_AWAY | Kind.WAREHOUSE_AWAY:
                self._bring_back()
                self.outage.begin(fault.kind)
                self._back_at = time.monotonic() + fault.seconds
            case Kind.COMPACT_CHUNKS:
                how = changes.compact(lake, "chunks", random)
            case Kind.COMPACT_EMBEDDINGS:
                how = changes.compact(lake, "embeddings", random)
            case Kind.EXPIRE:
                how = changes.expire(lake)
            case Kind.REPLACE:
                how = changes.replace(lake, self._tokenizer, random, share, fault.by_position)
            case Kind.MOVE:
                how = changes.move(lake, random, share, fault.by_position)
        self._tell(f"FAULT {fault} ({how})")

    def _bring_back(self) -> None:
        if self._back_at is not None:
            self._back_at = None
            self.outage.end()
            self._tell("back again")

    def _tell(self, line: str) -> None:
        self._last.append(f"{time.monotonic() - self._began:6.2f} {line}")
        self.say(self._last[-1])
