"""First step of a unit: its pending rows, as the token ids that the model reads."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.embed.plan import PendingUnit
from pipelines.embed.work import REJECT_COLUMNS, Job, UnitRows, reject_rows
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import StorageError
from pipelines.lake.scan import read_file

_KEYS = ["chunk_id", "doc_id", "source"]


def read_unit(job: Job, unit: PendingUnit, tokenizer: Tokenizer) -> UnitRows:
    """Reads a unit's pending rows and makes the model's inputs of them.

    Where the tokenizer is composable, the chunks' own `input_ids` are wrapped in specials and prefix and no
    text is read; elsewhere the text is tokenised again.

    Raises:
        StorageError: The data file is gone: the table was rewritten and its old files removed.
    """
    content = "input_ids" if tokenizer.composable else "text"
    try:
        table = read_file(job.table("chunks"), unit.file, [*_KEYS, content])
    except FileNotFoundError as error:
        raise StorageError(
            f"the data file {unit.file.path} of chunks is gone: the table was rewritten meanwhile",
            "Run the same command again: what was committed is kept",
        ) from error
    if unit.keep is not None:
        mask = np.unpackbits(np.frombuffer(unit.keep, np.uint8), count=table.num_rows).astype(np.bool_)
        table = table.filter(pa.array(mask))
    prefix = job.conf.prefix("document")
    if tokenizer.composable:
        table, bad = _without_bad_ids(table, tokenizer.vocab_size)
        values, offsets = list_parts(table.column("input_ids"))
        pieces = np.split(values.astype(np.int32, copy=False), offsets[1:-1]) if table.num_rows else []
        inputs = [tokenizer.model_input(piece, prefix) for piece in pieces]
    else:
        bad = REJECT_COLUMNS.empty_table()
        inputs = tokenizer.model_inputs(table.column("text").to_pylist(), prefix)
    return _within_limit(unit, table.select(_KEYS), inputs, bad, job.conf.max_tokens)


def list_parts(column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """A list column as values of all rows, joined, and offsets: row i is values[offsets[i] : offsets[i + 1]].

    Args:
        column: list or large_list of numbers, without nulls.
    """
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # what combine_chunks gives for no chunks, in some versions
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], column.type)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return values, offsets - (offsets[0] if len(offsets) else 0)


def list_column(values: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> pa.Array:
    """The inverse of `list_parts`, as large_list."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _without_bad_ids(table: pa.Table, vocab_size: int) -> tuple[pa.Table, pa.Table]:
    """The rows whose ids the model knows, and rejects for the others."""
    values, offsets = list_parts(table.column("input_ids"))
    wrong = np.flatnonzero((values < 0) | (values >= vocab_size))
    rows, first = np.unique(np.searchsorted(offsets, wrong, side="right") - 1, return_index=True)
    if len(rows) == 0:
        return table, REJECT_COLUMNS.empty_table()
    details = [
        f"token id {value} is not among the model's {vocab_size}" for value in values[wrong[first]].tolist()
    ]
    good = np.ones(table.num_rows, dtype=np.bool_)
    good[rows] = False
    return table.filter(pa.array(good)), reject_rows(table.take(pa.array(rows)), "bad_token_ids", details)


def _within_limit(
    unit: PendingUnit, keys: pa.Table, inputs: list[npt.NDArray[np.int32]], bad: pa.Table, max_tokens: int
) -> UnitRows:
    lengths = np.fromiter(map(len, inputs), dtype=np.int64, count=len(inputs))
    fits = lengths <= max_tokens
    long = np.flatnonzero(~fits)
    details = [f"{lengths[row]} tokens with its prefix, the model reads {max_tokens}" for row in long]
    too_long = reject_rows(keys.take(pa.array(long)), "too_long", details)
    kept = [inputs[row] for row in np.flatnonzero(fits)]
    values = np.concatenate(kept) if kept else np.empty(0, dtype=np.int32)
    rows = keys.filter(pa.array(fits)).append_column("input_ids", list_column(values, lengths[fits]))
    return UnitRows(unit, rows, pa.concat_tables([bad, too_long]), int(lengths[fits].sum()))
