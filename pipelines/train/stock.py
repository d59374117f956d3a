"""What a lake has of a recipe's sources: pairs, and how long their texts are. By columns, without Spark."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.lake import Lake
from pipelines.lake.beside import DOCUMENT, QUERY, pairs_lake
from pipelines.lake.filters import equals
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.training_tables import JUDGEMENTS, PAIRS
from pipelines.train.negatives import is_meant
from pipelines.train.recipe import ContrastiveRecipe

_NONE = pa.table({"ordinal": pa.array([], pa.int32()), "n_tokens": pa.array([], pa.int32())})


@dataclass(frozen=True)
class Stock:
    """By source; a source that the lake does not know of is in neither.

    Attributes:
        pairs: That a run would draw from.
        mean_tokens: Of a query and of a document, prefix and specials included, cut as the recipe cuts.
    """

    pairs: dict[str, int]
    mean_tokens: dict[str, tuple[float, float]]


def stock(lake: Lake, recipe: ContrastiveRecipe, overhead: Callable[[str], int]) -> Stock:
    """Counts what is there.

    Lengths are those of the texts that a teacher has been given: none before `embedlake filter`.

    Args:
        lake: With pairs, or without.
        recipe: Whose sources are asked for.
        overhead: Tokens that a prefix and the specials add to a text.
    """
    if not lake.exists(PAIRS.name):
        return Stock({}, {})
    counts = _kept(lake, recipe) if recipe.filtered else _pairs(lake, recipe)
    lengths: dict[str, tuple[float, float]] = {}
    texts = pairs_lake(lake)
    if texts.exists("chunks"):
        table = texts.table("chunks")
        files = scan_files(table)
        for source in recipe.sources:
            own = [file for file in files if file.partition[0].rpartition("/")[0] == source.name]
            rows = pa.concat_tables(
                [read_file(table, file, ("ordinal", "n_tokens")) for file in own] or [_NONE]
            )
            means = [
                _mean(
                    rows.filter(pc.equal(rows.column("ordinal"), ordinal)),
                    overhead(prefix),
                    recipe.max_tokens,
                )
                for ordinal, prefix in ((QUERY, source.query_prefix), (DOCUMENT, source.document_prefix))
            ]
            if all(means):
                lengths[source.name] = (means[0], means[1])
    return Stock(counts, lengths)


def _mean(rows: pa.Table, added: int, most: int) -> float:
    """Tokens of a text; 0 where there are none."""
    if not len(rows):
        return 0.0
    return float(np.minimum(rows.column("n_tokens").to_numpy() + added, most).mean())


def _pairs(lake: Lake, recipe: ContrastiveRecipe) -> dict[str, int]:
    table, counts = lake.table(PAIRS.name), Counter[str]()
    for source in recipe.sources:
        for file in scan_files(table, equals("source", source.name)):
            outcomes = read_file(table, file, ("outcome",)).column("outcome")
            counts[source.name] += pc.sum(pc.equal(outcomes, "kept")).as_py() or 0
    return dict(counts)


def _kept(lake: Lake, recipe: ContrastiveRecipe) -> dict[str, int]:
    """Pairs that the filter has kept, those that are gone since included.

    None where it is not told which of several teachers is meant.
    """
    if not lake.exists(JUDGEMENTS.name):
        return {}
    table, counts, asked = lake.table(JUDGEMENTS.name), Counter[str](), set()
    for source in recipe.sources:
        for file in scan_files(table, equals("source", source.name)):
            question = file.partition[1]
            if recipe.teacher is None or is_meant(question, recipe.teacher):
                asked.add(question)
                counts[source.name] += pc.sum(read_file(table, file, ("kept",)).column("kept")).as_py() or 0
    return dict(counts) if len(asked) == 1 else {}
