"""The search job."""

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import ConsoleProgress, amount
from jobs.settings import Settings
from pipelines.cluster.session import RaySession
from pipelines.encoder.conf import load_model_conf
from pipelines.errors import InputError
from pipelines.lake import Lake
from pipelines.lake.vector_source import EMBEDDINGS, VectorSource
from pipelines.search.hits import Hit
from pipelines.search.search import Searcher

_SHOWN_CHARS = 240


@dataclass(frozen=True)
class Asked:
    """What a search is asked for.

    Attributes:
        queries: What to look for, by the id that the answer carries.
        k: Most hits for each.
        dim: Dimension to compare in; None is that of the vectors.
        source: Only this source.
        where: Only rows that match this filter.
        table: `embeddings`, or a serving table.
        as_of: A release's name or a snapshot's id; None is now.
        funnel: Shortlist first.
        index: By indexes.
    """

    queries: dict[str, str]
    k: int = 10
    dim: int | None = None
    source: str | None = None
    where: str | None = None
    table: str = EMBEDDINGS
    as_of: str | None = None
    funnel: bool = False
    index: bool = False


def run(settings: Settings, asked: Asked, as_json: bool, is_batch: bool) -> None:
    """Searches the lake and prints the nearest chunks: of a batch, a line of JSON for each query."""
    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    progress = ConsoleProgress(Console(stderr=True))
    with ExitStack() as stack:
        if settings.search.workers:
            stack.enter_context(RaySession(settings.ray)).start()
        searcher = Searcher.open(
            lake, model, progress=progress, table=asked.table, as_of=asked.as_of, config=settings.search
        )
        found = searcher.search_many(
            list(asked.queries.values()),
            asked.k,
            asked.dim,
            asked.source,
            asked.where,
            asked.funnel,
            asked.index,
        )
    for (query_id, query), hits in zip(asked.queries.items(), found, strict=True):
        if is_batch and as_json:
            told = {"id": query_id, "query": query, "hits": [asdict(hit) for hit in hits]}
            print(json.dumps(told, ensure_ascii=False))  # noqa: T201 - for programs
        elif as_json:
            print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False))  # noqa: T201 - for programs
        else:
            Console().print(hits_table(query, hits))


def build_index(settings: Settings, table: str, rebuild: bool, as_json: bool) -> None:
    """Builds the indexes that are absent or old, and prints how many."""
    from pipelines.search.index import build  # FAISS, which no search need load

    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    progress = ConsoleProgress(Console(stderr=True))
    source = VectorSource.open(lake, table, model=model.name)
    built = build(lake, source, settings.search, progress, rebuild)
    if as_json:
        print(json.dumps(asdict(built)))  # noqa: T201 - for programs
        return
    Console().print(
        f"{built.table}: {built.built} partitions indexed ({built.rows:,} vectors, "
        f"{amount(built.bytes, 'bytes')}), {built.kept} are not old, {built.small} too small for an index",
        highlight=False,
        soft_wrap=True,
    )


def read_queries(path: Path) -> dict[str, str]:
    """Queries of a file by their ids: a line each, or where it ends in .jsonl objects with `_id` and `text`.

    Raises:
        InputError: There is no such file, or a line is no query.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file of queries {path} cannot be read: {error}") from error
    queries: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        query_id, text = str(number), line.strip()
        if path.suffix == ".jsonl":
            query_id, text = _parsed(line, number, path)
        if query_id in queries:
            raise InputError(
                f"line {number} of {path}: the id '{query_id}' is there twice", "Give it another"
            )
        queries[query_id] = text
    if not queries:
        raise InputError(f"the file {path} holds no query", "Write one a line")
    return queries


def _parsed(line: str, number: int, path: Path) -> tuple[str, str]:
    try:
        row = json.loads(line)
        text = row["text"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"line {number} of {path} is no query", 'Write objects such as {"_id": "1", "text": "a question"}'
        ) from error
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"line {number} of {path}: the text is empty, or no text", "Say what to look for")
    return str(row.get("_id", number)), text


def hits_table(query: str, hits: list[Hit]) -> Table:
    """The hits as a table for a terminal."""
    table = Table(title=Text(f"“{query}”"), title_justify="left", show_lines=True, expand=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("document", overflow="fold", ratio=2)
    table.add_column("text", overflow="fold", ratio=5)
    for hit in hits:
        text = " ".join(hit.text.split())
        shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
        # As Text: a document's brackets are no markup.
        table.add_row(f"{hit.score:.3f}", Text(hit.source), Text(hit.doc_id), Text(shown))
    return table
