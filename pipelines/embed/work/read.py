"""First step of a unit: its pending rows, as the token ids that the model reads."""
# ruff: noqa: N806  (array names carry their shape: x_N)

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import expression_to_pyarrow
from pyiceberg.table import Table

from pipelines.embed.plan.units import Named, Slice, Unit
from pipelines.embed.work.wire import REJECT_COLUMNS, Job, UnitRows, reject_rows
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import StorageError
from pipelines.lake.filters import parsed_filter
from pipelines.lake.slices import read_slice

KEYS = ("chunk_id", "doc_id", "source", "text_hash")


class GoneError(StorageError):
    """A data file of `chunks` is gone: the table was rewritten and its old files removed."""


def read_unit(job: Job, unit: Unit, tokenizer: Tokenizer) -> UnitRows:
    """Reads a unit's pending rows and makes the model's inputs of them.

    Where the tokenizer is composable, the chunks' own `input_ids` are wrapped in specials and prefix and no
    text is read; elsewhere the text is tokenised again, here and not where the accelerator is.

    Raises:
        GoneError: A data file is gone; a new plan knows where its rows are.
    """
    content = "input_ids" if tokenizer.composable else "text"
    table = job.table("chunks")
    names, tables = [], []
    for number, piece in enumerate(unit.slices):
        try:
            name, rows = _read_slice(table, piece, content, job.where)
        except FileNotFoundError as error:
            raise GoneError(
                f"the data file {piece.file.path} of chunks is gone: the table was rewritten meanwhile",
                "Run the same command again: what was committed is kept",
            ) from error
        names.append(name)
        tables.append(rows.append_column("slice", pa.array(np.full(rows.num_rows, number, dtype=np.int32))))
    rows = pa.concat_tables(tables)
    keys = rows.drop_columns([content])
    prefix = job.conf.prefix("document")
    if tokenizer.composable:
        good, details = known_ids(rows.column(content), tokenizer.vocab_size)
        bad = reject_rows(keys.filter(pa.array(~good)), "bad_token_ids", details)
        keys, rows = keys.filter(pa.array(good)), rows.filter(pa.array(good))
        inputs = tokenizer.wrapped(ragged(rows.column(content)), prefix)
    else:
        bad = REJECT_COLUMNS.empty_table()
        inputs = Ragged.of(tokenizer.model_inputs(rows.column(content).to_pylist(), prefix))
    return _within_limit(unit, tuple(names), keys, inputs, bad, job.conf.max_tokens)


def _read_slice(table: Table, piece: Slice, content: str, where: str | None) -> tuple[Named, pa.Table]:
    columns = [*KEYS, content]
    condition = None
    if where is not None:
        bound = bind(table.schema(), parsed_filter(table, where), case_sensitive=True)
        condition = expression_to_pyarrow(bound)
        columns = [field.name for field in table.schema().fields]
    rows, positions = read_slice(table, piece.file, piece.start, piece.stop, columns)
    live = rows.num_rows
    if piece.keep is not None:
        rows = rows.filter(pa.array(piece.mask()[positions - piece.start]))
    if condition is not None:
        rows = rows.filter(condition).select([*KEYS, content])
    return piece.named(live if piece.keep is None and where is None else None), rows


def ragged(column: pa.ChunkedArray) -> Ragged:
    """A list column of numbers, without nulls, as joined rows."""
    values, offsets = list_parts(column)
    return Ragged(values.astype(np.int32, copy=False), offsets)


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


def known_ids(column: pa.ChunkedArray, vocab_size: int) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Which rows hold only ids that the model knows, and for each other row what is wrong with it."""
    values, offsets = list_parts(column)
    wrong = np.flatnonzero((values < 0) | (values >= vocab_size))
    rows, first = np.unique(np.searchsorted(offsets, wrong, side="right") - 1, return_index=True)
    good = np.ones(len(column), dtype=np.bool_)
    good[rows] = False
    found = values[wrong[first]].tolist()
    return good, [f"token id {value} is not among the model's {vocab_size}" for value in found]


def _within_limit(
    unit: Unit, names: tuple[Named, ...], keys: pa.Table, inputs: Ragged, bad: pa.Table, max_tokens: int
) -> UnitRows:
    fits_N = inputs.lengths_N <= max_tokens
    long = np.flatnonzero(~fits_N)
    details = [
        f"{inputs.lengths_N[row]} tokens with its prefix, the model reads {max_tokens}: "
        f"set curate.chunk.max_tokens to {max_tokens} or less"
        for row in long
    ]
    too_long = reject_rows(keys.take(pa.array(long)), "too_long", details)
    kept = inputs if len(long) == 0 else inputs.take(np.flatnonzero(fits_N))
    return UnitRows(
        unit=unit,
        names=names,
        rows=keys.filter(pa.array(fits_N)) if len(long) else keys,
        inputs=kept,
        vectors_ND=None,
        rejects=pa.concat_tables([bad, too_long]),
        tokens=len(kept.values_T),
    )


def same_text(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first row of each text, and for each row which of those has its text.

    Args:
        column: text_hash.
    """
    coded = column.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    codes: npt.NDArray[np.int64] = pc.cast(coded.indices, pa.int64()).to_numpy()
    # Codes count up as texts come: a first one is higher than all before.
    highest = np.maximum.accumulate(np.concatenate((np.array([-1], dtype=np.int64), codes)))[:-1]
    return np.flatnonzero(codes > highest), codes
