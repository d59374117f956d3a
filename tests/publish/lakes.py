"""Lakes whose embeddings are made of the texts' hashes, and what a serving table of them must hold."""
# ruff: noqa: N803  (array names carry their shape: x_ND)

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.quantise import VectorType, encode
from pipelines.encoder.rotation import reduced
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.lake.models import record_model
from pipelines.lake.rotations import recorded_rotation
from pipelines.lake.serving import published, snapshot_as_of
from tests.chunks import ChunkText, append_chunks, corpus
from tests.faults.changes import _by_partition

MODEL = "hash@1"
DIM = 32


def hashed(text_hashes: Sequence[str], dim: int = DIM) -> npt.NDArray[np.float32]:
    """A vector for each text, whose energy falls along directions that are no coordinate's."""
    mix_DD = np.linalg.qr(np.random.default_rng(7).standard_normal((dim, dim)))[0]
    mix_DD = mix_DD * np.linspace(2, 0.2, dim)[:, None]
    rows = [np.random.default_rng(int(text[:8], 16)).standard_normal(dim) for text in text_hashes]
    x_ND = np.stack(rows) @ mix_DD if rows else np.empty((0, dim))
    return slice_renormalise(x_ND.astype(np.float32), dim)


def embed_pending(lake: Lake, model: str = MODEL, sources: Sequence[str] | None = None) -> int:
    """Gives every chunk that has none its embedding, one commit; how many there were."""
    table = lake.table("embeddings")
    columns = ("chunk_id", "doc_id", "source", "text_hash")
    chunks = lake.table("chunks").scan(selected_fields=columns).to_arrow().sort_by("chunk_id")
    there = table.scan(row_filter=f"model = '{model}'", selected_fields=("chunk_id",)).to_arrow()
    pending = chunks.filter(
        pc.invert(pc.is_in(chunks["chunk_id"], value_set=there["chunk_id"].combine_chunks()))
    )
    if sources is not None:
        pending = pending.filter(
            pc.is_in(pending["source"], value_set=pa.array(sources, pending["source"].type))
        )
    if pending.num_rows == 0:
        return 0
    vectors_ND = hashed(pending["text_hash"].to_pylist())
    pending = pending.append_column("model", pa.array([model] * pending.num_rows))
    pending = pending.append_column("unit", pa.array(["u"] * pending.num_rows))
    pending = pending.append_column("embedding", pa.array(list(vectors_ND), pa.list_(pa.float32())))
    files = [
        write_data_file(table, part, "embed", ParquetLayout(("embedding",)))
        for part in _by_partition(table, pending)
    ]
    append_files(table, files, {})
    return int(pending.num_rows)


def filled(config: LakeConfig, documents: int = 30) -> Lake:
    """A lake with chunks of two sources, all embedded."""
    lake = Lake.open(config)
    tokenizer = Tokenizer.load(load_model_conf("minilm"))
    append_chunks(lake, titled(documents), tokenizer, rows_per_file=8)
    record_model(lake.table("embeddings"), MODEL, {"dimension": DIM, "precision": "float32"})
    embed_pending(lake)
    return lake


def titled(documents: int, start: int = 0) -> list[ChunkText]:
    """Chunks whose documents have a title, and every other one a language."""
    made = []
    for chunk in corpus(start + documents)[2 * start :]:
        number = int(chunk.doc_id.rpartition("-")[2])
        metadata = {**chunk.metadata, **({"lang": "en" if number % 4 else "nl"} if number % 2 else {})}
        made.append(ChunkText(chunk.source, chunk.doc_id, chunk.text, chunk.ordinal, metadata=metadata))
    return made


def serving_rows(lake: Lake, name: str, as_of: str | None = None) -> list[dict[str, Any]]:
    """The rows of a serving table as any reader of Iceberg sees them, by chunk_id."""
    table = lake.table(name)
    scan = table.scan(snapshot_id=None if as_of is None else snapshot_as_of(table, as_of))
    return sorted((_plain(row) for row in scan.to_arrow().to_pylist()), key=lambda row: row["chunk_id"])


def expected_rows(lake: Lake, name: str, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What it must hold: computed from the tables as they are, all at once."""
    table = lake.table(name)
    state = published(table)  # its snapshot may have expired, where `maintain` made the current one
    assert state is not None
    rows = lake.table("embeddings").scan(row_filter=f"model = '{state.model}'").to_arrow().sort_by("chunk_id")
    chunks = {row["chunk_id"]: row for row in lake.table("chunks").scan().to_arrow().to_pylist()}
    full_ND = np.stack(rows["embedding"].to_pylist()).astype(np.float32)
    record = recorded_rotation(lake, state)
    x_Nd = reduced(full_ND, state.dim, record.rotation if record else None)
    stored, scale = _stored(x_Nd, state.type)
    made = []
    for at, row in enumerate(rows.select(["chunk_id", "doc_id", "source"]).to_pylist()):
        row["vector"] = stored[at]
        if scale is not None:
            row["scale"] = float(scale[at])
        for column in columns:
            field, _, key = column.partition(".")
            value = chunks[row["chunk_id"]][field]
            row[key or field] = dict(value).get(key) if key else value
        made.append(_plain(row))
    return made


def _stored(
    x_Nd: npt.NDArray[np.float32], kind: VectorType
) -> tuple[list[Any], npt.NDArray[np.float32] | None]:
    if kind == "float32":
        return x_Nd.tolist(), None
    x_NB, scale_N = encode(x_Nd, kind)
    return [row.tobytes() for row in x_NB], scale_N


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: sorted(value) if key == "metadata" and value else value for key, value in sorted(row.items())
    }
