"""Chunks packed to sequences."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipelines.cluster.session import RaySession
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import TrainingError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.train.feed import Share, sequences, step_rows
from pipelines.train.pack import pack_rows, prepare_sequences
from pipelines.train.start import starting_point
from tests.chunks import append_chunks, corpus
from tests.told import Told
from tests.train.lakes import masked_lm


@given(
    texts=st.lists(st.lists(st.integers(5, 99), max_size=9), max_size=9),
    cut=st.integers(0, 9),
    length=st.integers(2, 9),
)
def test_sequences_are_the_texts_one_after_the_other(texts: list[list[int]], cut: int, length: int) -> None:
    kind = pa.list_(pa.int32())
    empty = np.empty(0, dtype=np.int32)
    first, left = pack_rows(pa.array(texts[:cut], kind), empty, length, 1, 2)
    second, left = pack_rows(pa.array(texts[cut:], kind), left, length, 1, 2)
    made = np.concatenate((first, second))
    assert made.shape[1] == length
    assert (made[:, 0] == 1).all()
    stream = [token for text in texts for token in (*text, 2)]
    assert made[:, 1:].reshape(-1).tolist() + left.tolist() == stream
    assert len(left) < length - 1


def test_a_run_goes_through_all_text_as_often_as_it_takes(
    local_config: LakeConfig, spark: SparkSession, ray_session: RaySession
) -> None:
    del spark, ray_session
    lake = Lake.open(local_config)
    lake.ensure_tables()
    tokenizer = Tokenizer.load(load_model_conf("minilm"))
    append_chunks(lake, corpus(40), tokenizer)
    recipe = masked_lm(steps=70, batch=4, tokens=24, held_out=2)
    start = starting_point(recipe)
    prepared = prepare_sequences(lake, recipe, start, SparkConfig(), Told())
    assert prepare_sequences(lake, recipe, start, SparkConfig(), Told()) == prepared
    share = Share(0, 1, 4, prepared.shards)
    steps = [sequences(rows) for rows in step_rows(lake.config, prepared.data, share, range(70))]
    assert [batch.step for batch in steps] == list(range(70))
    ids = np.concatenate([batch.ids_BL for batch in steps])
    assert ids.shape == (280, 24)
    seen, counts = np.unique(ids, axis=0, return_counts=True)
    assert counts.max() - counts.min() <= 1, "all sequences before any comes again"
    tokens = sum(lake.table("chunks").scan(selected_fields=("n_tokens",)).to_arrow()["n_tokens"].to_pylist())
    assert len(seen) == (tokens + lake.table("chunks").scan().count()) // 23 - 8
    apart = [
        sequences(rows)
        for rows in step_rows(lake.config, prepared.data, share, range(70, prepared.steps + 9))
    ]
    assert [batch.step for batch in apart] == [70, 71]
    held_out = {tuple(row) for batch in apart for row in batch.ids_BL.tolist()}
    assert len(held_out) == 8
    assert held_out.isdisjoint(map(tuple, seen.tolist()))
    other = masked_lm(name="none", sources=["absent"])
    with pytest.raises(TrainingError, match="fill 0 sequences of 24 tokens"):
        prepare_sequences(lake, other, start, SparkConfig(), Told())
