"""The evaluation jobs: a table on stdout, and what else was asked for in files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.search import read_queries
from jobs.settings import Settings
from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.errors import ConfigError, EnvironmentFault, StorageError
from pipelines.evaluate.beir import read_dataset
from pipelines.evaluate.dims import dimensions
from pipelines.evaluate.held_out import held_out_pairs
from pipelines.evaluate.rank import check_kinds
from pipelines.evaluate.recall import RecallReport, measure, measure_table, sampled, with_queries
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.vector_source import VectorSource


@dataclass(frozen=True)
class Outputs:
    """Files to write, those that are not None.

    Attributes:
        json: The figures.
        markdown: The table.
        plot: A name, to which .png and .svg are added.
    """

    json: Path | None
    markdown: Path | None
    plot: Path | None

    def check(self) -> None:
        """Refuses what could not be written, before minutes are spent on it.

        Raises:
            ConfigError: A folder is not there, or a file is a folder.
        """
        for file in (self.json, self.markdown, self.plot):
            if file is not None and not file.parent.is_dir():
                raise ConfigError(f"there is no folder {file.parent}", "Make it first")
        for file in (self.json, self.markdown):
            if file is not None and file.is_dir():
                raise ConfigError(f"{file} is a folder", "Name a file")

    def write(self, data: dict[str, Any], markdown: str) -> None:
        """Prints the table, and writes it and the figures where asked.

        Raises:
            StorageError: A file cannot be written.
        """
        print(markdown)  # noqa: T201 - Markdown as it is, for pasting
        figures = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        for file, text in ((self.json, figures), (self.markdown, markdown)):
            if file is None:
                continue
            try:
                file.write_text(text, encoding="utf-8")
            except OSError as error:
                raise StorageError(f"{file} cannot be written: {error.strerror}") from error


def _begun(settings: Settings, outputs: Outputs) -> tuple[ConsoleProgress, ModelConf, tuple[int, ...]]:
    """Checks what an evaluation of retrieval is asked for, in less than a second."""
    outputs.check()
    progress = ConsoleProgress(Console(stderr=True))
    model = load_model_conf(settings.model)
    dims = dimensions(model, settings.evaluate.dims, progress)
    check_kinds(settings.evaluate.types, dims)
    return progress, model, dims


def run_retrieval(settings: Settings, corpus: Path, queries: Path, qrels: Path, outputs: Outputs) -> None:
    """Evaluates retrieval on a data set in BEIR's layout, and prints the table."""
    config = settings.evaluate
    progress, model, dims = _begun(settings, outputs)
    dataset = read_dataset(corpus, queries, qrels)
    # torch: seconds, and none of the checks above needs it
    from pipelines.evaluate.retrieval import encode_dataset, evaluate
    from pipelines.evaluate.vectors import load_encoder

    encoder = load_encoder(model, settings.evaluate.precision, progress)
    vectors = encode_dataset(encoder, dataset, config, progress)
    report = evaluate(dataset, vectors, dims, config, progress)
    outputs.write(report.as_json(), report.as_markdown())
    if outputs.plot is not None:
        from pipelines.evaluate.plot import save_plot

        for file in save_plot(report, outputs.plot):
            progress.say(f"drawn to {file}")


def run_pairs(settings: Settings, sources: Sequence[str] | None, outputs: Outputs) -> None:
    """Evaluates retrieval on the lake's held-out pairs, source by source, and prints the tables."""
    config = settings.evaluate
    progress, model, dims = _begun(settings, outputs)
    lake = Lake.open(settings.lake)
    with explained(lake.config):
        datasets = held_out_pairs(lake, sources)
    from pipelines.evaluate.retrieval import encode_dataset, evaluate
    from pipelines.evaluate.vectors import load_encoder

    encoder = load_encoder(model, settings.evaluate.precision, progress)
    reports = {}
    for source, dataset in datasets.items():
        vectors = encode_dataset(encoder, dataset, config, progress)
        reports[source] = evaluate(dataset, vectors, dims, config, progress)
    outputs.write(
        {source: report.as_json() for source, report in reports.items()},
        "\n".join(f"### {source}\n\n{report.as_markdown()}" for source, report in reports.items()),
    )


@dataclass(frozen=True)
class RecallAsked:
    """What recall is measured of.

    Attributes:
        table: A serving table; None for none.
        as_of: A release of it.
        queries: A file of queries; None for some of the lake's own vectors.
        k: Size of the answers.
        rows: Most vectors to look through.
        sample: Most queries from the lake's own vectors.
        seed: Decides which.
        shortlists: Of funnels.
    """

    table: str | None
    as_of: str | None
    queries: Path | None
    k: int
    rows: int
    sample: int
    seed: int
    shortlists: tuple[int, ...]


def run_recall(settings: Settings, asked: RecallAsked, outputs: Outputs) -> None:
    """Measures what smaller vectors and funnels find on the lake's own, and prints the table."""
    outputs.check()
    progress = ConsoleProgress(Console(stderr=True))
    config = settings.evaluate
    model = load_model_conf(settings.model)
    dims = dimensions(model, config.dims, progress)
    lake = Lake.open(settings.lake)
    with explained(settings.lake):
        source = VectorSource.open(lake, model=model.name)
        table = VectorSource.open(lake, asked.table, asked.as_of) if asked.table else None
        total = sum(file.rows for file in source.files(source.filter()))
        sample = sampled(source, asked.rows, asked.sample, asked.seed, progress)
        if asked.queries is not None:
            from pipelines.evaluate.vectors import load_encoder  # torch: seconds

            texts = list(read_queries(asked.queries).values())
            encoder = load_encoder(model, config.precision, progress)
            sample = with_queries(sample, encoder.encode_texts(texts, "query"))
        found = measure(
            sample,
            dims,
            config.types,
            asked.shortlists,
            settings.search.funnel_dim,
            asked.k,
            config.rotate,
            progress,
        )
        if table is not None and asked.table is not None:
            found.append(measure_table(sample, table, asked.table, asked.k))
    report = RecallReport(
        model=source.model,
        rows=len(sample.documents_ND),
        table_rows=total,
        queries=len(sample.queries_QD),
        k=asked.k,
        rotated=config.rotate,
        found=tuple(found),
    )
    outputs.write(report.as_json(), report.as_markdown())


def run_mteb(settings: Settings, tasks: Sequence[str], outputs: Outputs) -> None:
    """Evaluates tasks of the mteb library, and prints the table."""
    outputs.check()
    progress = ConsoleProgress(Console(stderr=True))
    model = load_model_conf(settings.model)
    dims = dimensions(model, settings.evaluate.dims, progress)
    if find_spec("mteb") is None:
        raise EnvironmentFault("the library mteb is not installed", "pip install 'embedlake[mteb]'")
    from pipelines.evaluate.tasks import evaluate_tasks, load_tasks  # torch and mteb: seconds
    from pipelines.evaluate.vectors import load_encoder

    loaded = load_tasks(tasks)
    encoder = load_encoder(model, settings.evaluate.precision, progress)
    report = evaluate_tasks(encoder, loaded, dims, progress)
    outputs.write(report.as_json(), report.as_markdown())
