"""The same commands on a folder and on S3 with a REST catalogue: the same rows, the same vectors."""

import gzip
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.local.seaweed import SeaweedServer
from jobs.settings import load_settings
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.lake import Lake
from pipelines.lake.s3 import fsspec_options
from tests.e2e.cli import Result, embedlake
from tests.encoder.texts import docstrings

pytestmark = pytest.mark.usefixtures("spark", "ray_session")

QUERY = "remove duplicate values"


@dataclass
class Profile:
    name: str
    folder: Path | None
    env: dict[str, str]
    corpus: str
    settings: tuple[str, ...] = ("lake.buckets=2", "lake.namespace=e2e")

    @property
    def options(self) -> list[str]:
        place = ["--lake", str(self.folder)] if self.folder else []
        return ["--profile", self.name, *place, *(word for each in self.settings for word in ("--set", each))]

    def run(self, *words: str) -> Result:
        return embedlake(*self.options, *words, env=self.env)

    def lake(self) -> Lake:
        return Lake.open(load_settings(self.name, self.folder, self.settings, self.env).lake)

    def rows(self, table: str, *leave_out: str) -> list[dict[str, Any]]:
        found = self.lake().table(table).scan().to_arrow().drop_columns(list(leave_out))
        return sorted(found.to_pylist(), key=lambda row: [str(value) for value in row.values()])


def write_corpus(folder: Path) -> None:
    folder.mkdir()
    texts = [text for text in islice(docstrings("numpy"), 600) if len(text) > 200][:150]
    rows = [{"doc_id": f"numpy/{n}", "text": text, "source": "numpy", "n": n} for n, text in enumerate(texts)]
    rows += [{"doc_id": f"twin/{n}", "text": texts[n], "source": "twins", "n": n} for n in range(10)]
    rows += [{"doc_id": "empty", "text": "", "source": "numpy", "n": 0}]
    half = len(rows) // 2
    pq.write_table(pa.Table.from_pylist(rows[:half]), folder / "a.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in rows[half:])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "c.parquet").write_bytes(b"PAR1 not really PAR1")


@pytest.fixture(scope="module")
def profiles(seaweed: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Profile]:
    folder = tmp_path_factory.mktemp("e2e")
    write_corpus(folder / "corpus")
    settings = load_settings("s3", environment=seaweed.profile_env())
    fs = fsspec.filesystem("s3", **fsspec_options(settings.lake.s3))
    fs.put(str(folder / "corpus"), f"{seaweed.bucket}/e2e/corpus", recursive=True)
    on_s3 = f"s3://{seaweed.bucket}/e2e/corpus"
    return {
        "local": Profile("local", folder / "lake", {}, str(folder / "corpus")),
        "s3": Profile("s3", None, seaweed.profile_env(), on_s3),
    }


@pytest.fixture(scope="module")
def filled(profiles: dict[str, Profile]) -> dict[str, Profile]:
    for profile in profiles.values():
        for command in (["curate", profile.corpus], ["embed"]):
            done = profile.run(*command)
            assert done.code == 0, done.err
    return profiles


@pytest.mark.parametrize("name", ["local", "s3"])
def test_every_row_is_accounted_for(filled: dict[str, Profile], name: str) -> None:
    status = filled[name].run("status", "--json").json()
    assert status["balanced"]
    assert status["documents"] == 162
    assert (status["kept"], status["duplicates"], status["rejects"]) == (150, 10, 2)
    (model,) = status["embeddings"].values()
    assert model == {"rows": status["chunks"], "pending": 0, "rejects": 0}


def test_both_profiles_hold_the_same_documents_chunks_and_duplicates(filled: dict[str, Profile]) -> None:
    # Where and when they were read is of the run.
    apart = {"documents": ("arrival", "input", "file", "position")}
    for table in ("documents", "chunks", "duplicates"):
        local, s3 = (
            [
                row
                for row in filled[name].rows(table, *apart.get(table, ()))
                if "c.parquet" not in str(row["doc_id"])
            ]
            for name in ("local", "s3")
        )
        assert local == s3, table
        assert len(local) >= 10
    reasons = [[row["reason"] for row in filled[name].rows("rejects")] for name in ("local", "s3")]
    assert sorted(reasons[0]) == sorted(reasons[1]) == ["corrupt_file", "empty_text"]


def test_both_profiles_hold_the_same_vectors_which_are_the_encoders_own(filled: dict[str, Profile]) -> None:
    local, s3 = (
        {row["chunk_id"]: np.asarray(row["embedding"], np.float32) for row in filled[name].rows("embeddings")}
        for name in ("local", "s3")
    )
    assert local.keys() == s3.keys()
    chunks = {row["chunk_id"]: row for row in filled["local"].rows("chunks")}
    encoder = Encoder.load(load_model_conf("minilm"))
    ids = list(chunks)
    own = encoder.encode_texts([chunks[i]["text"] for i in ids], "document")
    for chunk_id, vector in zip(ids, own, strict=True):
        assert local[chunk_id] @ s3[chunk_id] > 0.9999
        assert local[chunk_id] @ vector > 0.999


@pytest.mark.parametrize("name", ["local", "s3"])
def test_the_same_commands_again_write_nothing_and_say_so(filled: dict[str, Profile], name: str) -> None:
    profile = filled[name]
    tables = ("documents", "chunks", "duplicates", "rejects", "embeddings")
    before = [profile.lake().table(table).current_snapshot() for table in tables]
    for command in (["curate", profile.corpus], ["embed"]):
        done = profile.run(*command)
        assert done.code == 0
        assert "nothing new" in done.out
    assert before == [profile.lake().table(table).current_snapshot() for table in tables]


@pytest.mark.parametrize("name", ["local", "s3"])
@pytest.mark.parametrize("dim", [384, 64])
def test_a_search_finds_what_the_query_is_about(filled: dict[str, Profile], name: str, dim: int) -> None:
    hits = filled[name].run("search", QUERY, "--dim", str(dim), "-k", "5", "--json").json()
    scores = [hit["score"] for hit in hits]
    assert len(hits) == 5
    assert scores == sorted(scores, reverse=True)
    assert any("unique" in hit["text"].lower() or "duplicate" in hit["text"].lower() for hit in hits)


def test_a_search_for_a_chunks_own_text_finds_it_first(filled: dict[str, Profile]) -> None:
    chunk = max(filled["local"].rows("chunks"), key=lambda row: row["n_tokens"])
    (hit,) = filled["local"].run("search", "-k", "1", "--json", "--", chunk["text"]).json()
    assert hit["text"] == chunk["text"]
    assert hit["score"] > 0.999


@pytest.mark.parametrize("name", ["local", "s3"])
def test_a_release_is_published_searched_indexed_measured_and_brought_back(
    filled: dict[str, Profile], name: str, tmp_path: Path
) -> None:
    profile = filled[name]
    small = ["--dim", "64", "--type", "int8", "--rotate", "--column", "text", "--column", "metadata.n"]
    first = profile.run("publish", *small, "--release", "one", "--json").json()
    assert (first["kind"], first["table"]) == ("full", "serving_minilm_64_int8")
    assert first["rows"] == len(profile.rows("embeddings"))
    again = profile.run("publish", *small)
    assert again.code == 0, again.err
    assert "nothing new" in again.out
    serving = profile.run("status", "--json").json()["serving"]
    assert serving == {
        first["table"]: {
            **{"model": serving[first["table"]]["model"], "dim": 64, "type": "int8", "rotated": True},
            **{"rows": first["rows"], "releases": ["one"], "current": True},
        }
    }
    assert "serving_minilm_64_int8" in profile.run("status").out

    on_it = ["--table", first["table"], "-k", "5", "--json"]
    hits = profile.run("search", QUERY, *on_it, "--as-of", "one").json()
    assert any("unique" in hit["text"].lower() or "duplicate" in hit["text"].lower() for hit in hits)
    own = profile.run("search", QUERY, *on_it, "--where", "n = '7'").json()
    assert {hit["metadata"]["n"] for hit in own} == {"7"}
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"_id": "q1", "text": "sort an array"}\n{"_id": "q2", "text": "a mean"}\n')
    lines = profile.run("search", "--queries", str(queries), *on_it, "--funnel").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["q1", "q2"]
    alone = profile.run("search", "sort an array", *on_it).json()
    assert [hit["chunk_id"] for hit in json.loads(lines[0])["hits"]] == [hit["chunk_id"] for hit in alone]

    built = profile.run("index", "--table", first["table"], "--json").json()
    assert (built["built"], built["small"] > 0) == (0, True)  # too few rows for one
    indexed = profile.run("search", QUERY, *on_it, "--index")
    assert indexed.json() == hits
    assert "embedlake index" in indexed.err

    figures = tmp_path / "recall.json"
    done = profile.run(
        "evaluate", "recall", "--table", first["table"], "--dims", "384,64", "--json", str(figures)
    )
    assert done.code == 0, done.err
    found = {(row["what"], row["dim"]): row["recall"] for row in json.loads(figures.read_text())["found"]}
    assert found["float32", 384] == 1.0
    assert found[first["table"], 64] > found["int8", 64]  # the rotation's doing

    back = profile.run("publish", "--dim", "64", "--type", "int8", "--rollback", "one")
    assert back.code == 0, back.err
    assert "'one' again" in back.out
    for words, code, told in (
        (["publish", "--dim", "500"], 2, "gives 384 dimensions"),
        (["publish", "--dim", "64", "--rollback", "two"], 2, "has no release or snapshot 'two'"),
        (["search", QUERY, "--table", "serving_minilm_64_int8", "--where", "language = 'en'"], 2, "language"),
        (["search", "  ", "--table", "serving_minilm_64_int8"], 2, "query is empty"),
        (["search"], 2, "--queries FILE"),
    ):
        refused = profile.run(*words)
        assert (refused.code, told in refused.err) == (code, True), refused.err


def test_no_secret_is_in_a_table_or_its_metadata(filled: dict[str, Profile], seaweed: SeaweedServer) -> None:
    lake = filled["s3"].lake()
    for name in ("documents", "chunks", "duplicates", "rejects", "embeddings", "serving_minilm_64_int8"):
        table = lake.table(name)
        everything = table.metadata.model_dump_json() + str(table.scan().to_arrow().slice(0, 100).to_pylist())
        assert seaweed.secret_key not in everything
        assert seaweed.access_key not in everything
