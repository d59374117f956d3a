"""In how many texts of its source a line stands: what Spark's Python workers do. Arrow in, Arrow out."""

from collections.abc import Callable, Iterator, Sequence, Set

import pyarrow as pa

from pipelines.curate.read.readers import FileFault
from pipelines.curate.records import Rules, readable_text, source_of
from pipelines.curate.rules.boilerplate import keyed_lines
from pipelines.curate.spark_ops import Batches, Found, Make
from pipelines.text import text_hash

TEXT_SCHEMA = pa.schema([(name, pa.string()) for name in ("source", "text_hash", "text")])
TEXT_DDL = "source string, text_hash string, text string"
COUNT_SCHEMA = pa.schema(
    [("source", pa.string()), ("key", pa.int64()), ("documents", pa.int64()), ("line", pa.string())]
)
COUNT_DDL = "source string, key bigint, documents bigint, line string"
_LINE_CHARS = 200
_BATCH_ROWS = 10_000
# Partial counts that a worker holds at a time: 500 bytes each, or up to 900 where the letters are not Latin.
_MOST_KEYS = 200_000


def text_lister(learnt: Set[str], rules: Rules, batch_chars: int = 16 << 20) -> Make:
    """Makes rows of `TEXT_SCHEMA` of the readable records whose source is not in `learnt`.

    Rules of text are not asked: they judge what is left of a text without the lines that are looked for.
    Batches are as those of `pipelines.curate.records.to_batches`.
    """

    def make(found: Iterator[Found]) -> Batches:
        rows: list[tuple[str, str, str]] = []
        chars = 0
        for raw, place, _ in found:
            if isinstance(raw, FileFault) or (source := source_of(raw, place)) in learnt:
                continue
            text = readable_text(raw, place, rules)
            if text is None:
                continue
            rows.append((source, text_hash(text), text))
            chars += len(text)
            if chars >= batch_chars or len(rows) >= 1000:
                yield _batch(rows, TEXT_SCHEMA)
                rows, chars = [], 0
        if rows:
            yield _batch(rows, TEXT_SCHEMA)

    return make


def line_counter(min_chars: int, most_keys: int = _MOST_KEYS) -> Callable[[Batches], Batches]:
    """A function over batches of source and text: partial counts, to be added up by source and key.

    Args:
        min_chars: As of `line_keys`.
        most_keys: When it holds more, it yields what it has and starts anew.

    Returns:
        Yields rows of `COUNT_SCHEMA`: of each line how many texts held it; with a null key and line, of how
        many texts of the source the rows tell.
    """

    def count(batches: Batches) -> Batches:
        texts: dict[str, int] = {}
        lines: dict[tuple[str, int], tuple[int, str]] = {}
        for batch in batches:
            for source, text in zip(
                batch.column("source").to_pylist(), batch.column("text").to_pylist(), strict=True
            ):
                texts[source] = texts.get(source, 0) + 1
                for key, line in keyed_lines(text, min_chars).items():
                    before, kept = lines.get((source, key), (0, line[:_LINE_CHARS]))
                    lines[source, key] = (before + 1, kept)
                if len(lines) + len(texts) > most_keys:
                    yield from _counts(texts, lines)
                    texts, lines = {}, {}
        yield from _counts(texts, lines)

    return count


def _counts(texts: dict[str, int], lines: dict[tuple[str, int], tuple[int, str]]) -> Iterator[pa.RecordBatch]:
    def rows() -> Iterator[tuple[str, int | None, int, str | None]]:
        for source, count in texts.items():
            yield source, None, count, None
        for (source, key), (count, line) in lines.items():
            yield source, key, count, line

    held: list[tuple[str, int | None, int, str | None]] = []
    for row in rows():
        held.append(row)
        if len(held) == _BATCH_ROWS:
            yield _batch(held, COUNT_SCHEMA)
            held = []
    if held:
        yield _batch(held, COUNT_SCHEMA)


def _batch(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
