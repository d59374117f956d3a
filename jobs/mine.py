"""The jobs `filter` and `mine`: a teacher's vectors of pairs, and what they say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.cluster.session import RaySession
from pipelines.embed.plan.plan import Wanted
from pipelines.embed.run import embed
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake
from pipelines.lake.beside import DOCUMENT, QUERY, Teacher, pairs_lake
from pipelines.lake.training_tables import LABELLED_BY_PROPERTY, PAIRS
from pipelines.mine.run import MineReport, filter_pairs, mine_negatives
from pipelines.mine.texts import write_texts
from pipelines.progress import Progress


def run_filter(settings: Settings, as_json: bool) -> None:
    """Embeds the pairs' texts and keeps the pairs whose document is found by its query."""
    with _asked(settings) as (lake, teacher, progress, device):
        report = filter_pairs(lake, teacher, settings.mine, device, progress)
    _tell(report, "found their document", as_json)


def run_mine(settings: Settings, as_json: bool) -> None:
    """Finds the hard negatives of the pairs that the filter has kept."""
    with _asked(settings) as (lake, teacher, progress, _):
        report = mine_negatives(lake, teacher, settings.mine, progress)
    _tell(report, "have a hard negative", as_json)


@contextmanager
def _asked(settings: Settings) -> Iterator[tuple[Lake, Teacher, Progress, str]]:
    """The lake, the teacher that has embedded its pairs, and a Ray, which embedding uses too."""
    progress = ConsoleProgress(Console(stderr=True))
    lake = Lake.open(settings.lake)
    with RaySession(settings.ray) as session:
        with progress.step("starting Ray", None, "seconds"):
            session.start()
        device = "cuda" if session.has_gpu() else "cpu"
        yield lake, embedded(lake, settings, settings.mine.teacher, progress), progress, device


def embedded(lake: Lake, settings: Settings, model: str, progress: Progress) -> Teacher:
    """Writes and embeds the texts of pairs that have no vectors yet, by the engine that embeds chunks."""
    documents = load_model_conf(model)
    judges = json.loads(lake.table(PAIRS.name).properties.get(LABELLED_BY_PROPERTY, "[]"))
    if own := {documents.name, documents.hub}.intersection(judges):
        progress.say(
            f"warning: evaluation sets were labelled by '{own.pop()}', which is asked here: a model that "
            "learns from it is judged by what it was taught"
        )
    if count := write_texts(lake, documents, settings.mine, settings.spark):
        progress.say(f"{count:,} pairs are new: their texts are written for {documents.name}")
    texts = pairs_lake(lake)
    queries = documents
    if documents.prefix("query") != documents.prefix("document"):
        # To the engine every text is a document: a query's prefix makes it another model.
        prefixes = {**documents.prefixes, "document": documents.prefix("query")}
        queries = documents.model_copy(update={"name": f"{documents.name}-query", "prefixes": prefixes})
    sides = [(documents, Wanted())]
    if queries is not documents:
        sides = [
            (documents, Wanted(where=f"ordinal = {DOCUMENT}")),
            (queries, Wanted(where=f"ordinal = {QUERY}")),
        ]
    keys = [
        embed(texts, conf, settings.embed, settings.ray, progress, wanted).model for conf, wanted in sides
    ]
    return Teacher(keys[-1], keys[0], documents.dimension)


def _tell(report: MineReport, what: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(report)))  # noqa: T201 - for programs
        return
    console = Console()
    for source, pairs in sorted(report.pairs.items()):
        kept = report.kept[source]
        share = f" ({kept / pairs:.1%})" if pairs else ""
        console.print(f"{source}: {kept:,} of {pairs:,} pairs {what}{share}", highlight=False, markup=False)
    console.print(
        f"{report.windows:,} windows answered, {report.settled:,} were before", highlight=False, markup=False
    )
