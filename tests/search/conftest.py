"""A lake with real embeddings, made once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.lake import Lake, LakeConfig
from pipelines.search.search import Searcher
from tests.chunks import ChunkText, append_chunks, corpus
from tests.embed.inline import embed_inline
from tests.search.library import made_library


@dataclass(frozen=True)
class Embedded:
    """A lake, and its embeddings in memory."""

    lake: Lake
    conf: ModelConf
    encoder: Encoder
    chunk_ids: list[str]
    sources: list[str]
    texts: dict[str, str]
    vectors: npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The model, loaded once."""
    return Encoder.load(load_model_conf("minilm"), device="cpu", threads=1)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Lake:
    """A lake with whole documents, their chunks, and a serving table of them with a release."""
    return made_library(LakeConfig(dir=tmp_path_factory.mktemp("library"), buckets=2), encoder)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Embedded:
    """120 chunks in two sources; five of them have one text, so that scores tie."""
    conf, tokenizer = encoder.conf, encoder.tokenizer
    lake = Lake.open(LakeConfig(dir=tmp_path_factory.mktemp("search"), buckets=2))
    twins = [ChunkText("notes", f"twin-{n}", "Iceberg keeps snapshots of a table.") for n in range(5)]
    append_chunks(lake, [*corpus(57, chunks_each=2), *twins], tokenizer, rows_per_file=20)
    append_chunks(
        lake, [ChunkText("notes", "fox", "The quick brown fox jumps over the lazy dog.")], tokenizer
    )
    embed_inline(lake, encoder)
    rows = lake.table("embeddings").scan().to_arrow()
    chunks = lake.table("chunks").scan(selected_fields=("chunk_id", "text")).to_arrow().to_pylist()
    return Embedded(
        lake=lake,
        conf=conf,
        encoder=encoder,
        chunk_ids=rows.column("chunk_id").to_pylist(),
        sources=rows.column("source").to_pylist(),
        texts={chunk["chunk_id"]: chunk["text"] for chunk in chunks},
        vectors=np.stack(rows.column("embedding").to_pylist()).astype(np.float32),
    )


@pytest.fixture(scope="session")
def searcher(embedded: Embedded) -> Searcher:
    """Opened once: the model is in memory."""
    return Searcher.open(embedded.lake, embedded.conf)
