"""The JSON interface on a real lake, against what a `Searcher` finds and what the tables hold."""

import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.errors import CatalogError, ConfigError, EnvironmentFault
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.publish.config import PublishConfig
from pipelines.publish.report import Request
from pipelines.publish.run import publish
from pipelines.search.queries import QueryEncoder
from pipelines.search.search import Searcher
from pipelines.search.serve.app import make_app
from pipelines.search.serve.desk import Desk
from pipelines.search.serve.faults import told
from pipelines.search.serve.server import address, bound_socket, is_loopback, known_names, tell_risk
from tests.chunks import append_chunks, corpus
from tests.embed.inline import embed_inline
from tests.search.library import ALPS, RELEASE, SERVING
from tests.told import Told

_QUERY = "which animal warns the others of danger"
_HOST = "http://127.0.0.1:8765"


def _client(lake: Lake, *encoders: Encoder) -> TestClient:
    """A client of a lake's server, with models that are loaded already."""

    def load(conf: ModelConf, precision: str) -> QueryEncoder:
        return next(one for one in encoders if (one.conf.name, one.precision) == (conf.name, precision))

    app = make_app(Desk(lake, load_model_conf("minilm"), loader=load), known_names("127.0.0.1"))
    return TestClient(app, _HOST, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(library: Lake, encoder: Encoder) -> Iterator[TestClient]:
    with _client(library, encoder) as made:
        yield made


def _asked(client: TestClient, path: str, **parameters: Any) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"k": 3, "dim": 64},
        {"source": "notes"},
        {"table": SERVING},
        {"table": SERVING, "as_of": RELEASE, "where": "lang = 'nl'", "k": 4},
        {"funnel": True, "dim": 128},
    ],
    ids=str,
)
def test_hits_are_those_of_a_searcher(
    library: Lake, client: TestClient, encoder: Encoder, wanted: dict[str, Any]
) -> None:
    answer = _asked(client, "/api/search", q=_QUERY, **{**wanted, "funnel": int("funnel" in wanted)})
    place = {name: wanted[name] for name in ("table", "as_of") if name in wanted}
    rest = {name: value for name, value in wanted.items() if name not in place}
    searcher = Searcher.open(library, encoder.conf, loader=lambda conf, precision: encoder, **place)
    assert answer["hits"] == [asdict(hit) for hit in searcher.search(_QUERY, **rest)]
    assert len(answer["hits"]) == wanted.get("k", len(answer["hits"])) > 0
    table = wanted.get("table", "embeddings")
    assert (answer["table"], answer["model"]) == (table, encoder.key)
    assert answer["dim"] == wanted.get("dim", 128 if table == SERVING else 384)
    assert answer["snapshot"] == str(library.table(table).metadata.current_snapshot_id)
    assert answer["notes"] == []


def test_a_dimension_that_the_model_was_not_made_for_is_noted(client: TestClient) -> None:
    answer = _asked(client, "/api/search", q=_QUERY, dim=100)
    assert "not made for slices of 100" in " ".join(answer["notes"])


def test_what_can_be_searched_is_told_without_a_search(client: TestClient, encoder: Encoder) -> None:
    told_of = _asked(client, "/api/lake")
    embeddings, serving = told_of["tables"]
    assert (embeddings["name"], serving["name"]) == ("embeddings", SERVING)
    assert {embeddings["model"], serving["model"]} == {encoder.key}
    assert (embeddings["dims"], serving["dims"]) == ([384, 256, 128, 64, 32], [128, 64, 32])
    assert (serving["type"], serving["rotated"], serving["releases"]) == ("int8", False, [RELEASE])
    assert told_of["sources"] == serving["sources"] == ["manual", "nature", "notes", "web"]
    assert "lang" in serving["columns"]
    assert "vector" not in serving["columns"]


def test_a_chunk_is_its_characters_of_the_document(client: TestClient) -> None:
    hit = _asked(client, "/api/search", q=_QUERY, k=1)["hits"][0]
    assert "marmot" in hit["text"]
    document = _asked(client, "/api/document", doc_id=hit["doc_id"], source=hit["source"])
    assert (document["text"], document["given_id"], document["outcome"]) == (ALPS, "alps", "kept")
    assert document["metadata"] == {"title": "Notes on the Alps", "lang": "en"}
    assert [chunk["ordinal"] for chunk in document["chunks"]] == list(range(len(document["chunks"])))
    (span,) = [chunk for chunk in document["chunks"] if chunk["chunk_id"] == hit["chunk_id"]]
    assert ALPS[span["char_start"] : span["char_end"]] == hit["text"]


@pytest.mark.parametrize(("source", "doc_id"), [("nature", "nobody"), ("web", "alps"), ("nature", "empty")])
def test_a_document_without_text_is_not_found(client: TestClient, source: str, doc_id: str) -> None:
    answer = client.get("/api/document", params={"source": source, "doc_id": doc_id})
    assert answer.status_code == 404
    assert f"no text of a document '{doc_id}'" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/search", "the query is empty"),
        ("/api/search?q=%20", "the query is empty"),
        ("/api/search?q=a&k=0", "k is '0'"),
        ("/api/search?q=a&k=1001", "k is '1001'"),
        ("/api/search?q=a&k=ten", "k is 'ten'"),
        ("/api/search?q=a&dim=385", "cannot be compared in 385"),
        ("/api/search?q=a&source=nowhere", "no embeddings of a source 'nowhere'"),
        ("/api/search?q=a&where=source%20is", "the filter 'source is' cannot be used"),
        ("/api/search?q=a&where=" + "(" * 1500, "cannot be used"),
        ("/api/search?q=a&table=documents", "no table 'documents' that can be searched"),
        ("/api/search?q=a&table=..%2Fetc", "no table '../etc' that can be searched"),
        ("/api/search?q=a&as_of=autumn", "no release or snapshot 'autumn'"),
        ("/api/search?q=a&funnel=perhaps", "funnel is 'perhaps'"),
        ("/api/search?query=a", "no parameter 'query'"),
        ("/api/document?doc_id=alps", "source is missing"),
    ],
)
def test_what_is_asked_wrongly_is_told_with_a_way_out(client: TestClient, path: str, error: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 400, answer.text
    assert error in answer.json()["error"]
    assert answer.json()["hint"]


def test_questions_at_once_do_not_mix(client: TestClient) -> None:
    asked = [
        {"q": query, "table": table, "k": 3}
        for query in ("a marmot", "cold blue water", "a web page", "token ids")
        for table in ("embeddings", SERVING)
    ]
    alone = [_asked(client, "/api/search", **one)["hits"] for one in asked]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda one: _asked(client, "/api/search", **one)["hits"], asked))
    assert together == alone


def test_a_table_published_with_another_model_is_searched_by_that_one(
    local_config: LakeConfig, encoder: Encoder
) -> None:
    lake = Lake.open(local_config)
    other = "float32" if encoder.precision == "bfloat16" else "bfloat16"
    encoders = [encoder, Encoder.load(encoder.conf, device="cpu", precision=other)]
    append_chunks(lake, corpus(4), encoder.tokenizer)
    for one in encoders:
        embed_inline(lake, one)
    serving = PublishConfig(table="serving", dim=64)
    with _client(lake, *encoders) as client:
        for one in encoders:
            publish(lake, serving, SparkConfig(), Request(one.key, one.conf))
            assert _asked(client, "/api/search", q="a", table="serving")["model"] == one.key
        told_of = _asked(client, "/api/lake")
        assert [table["name"] for table in told_of["tables"]] == ["serving"]
        assert "several models fit" in told_of["faults"]["embeddings"]["error"]


# Faults of the lake.


def test_a_lake_without_embeddings_says_what_to_run(local_config: LakeConfig) -> None:
    lake = Lake.open(local_config)
    lake.ensure_tables()
    with _client(lake) as client:
        answers = [client.get("/api/lake"), client.get("/api/search?q=a")]
    assert [answer.status_code for answer in answers] == [500, 500]
    assert {answer.json()["hint"] for answer in answers} == {"Run 'embedlake embed'"}


def test_a_catalogue_that_fails_is_a_service_that_is_away(
    library: Lake, encoder: Encoder, tmp_path: Path
) -> None:
    assert library.config.dir is not None
    shutil.copytree(library.config.dir, tmp_path / "lake")
    lake = Lake.open(LakeConfig(dir=tmp_path / "lake"))
    (tmp_path / "lake" / "catalog.db").write_bytes(b"no catalogue at all" * 1000)
    with _client(lake, encoder) as client:
        answer = client.get("/api/search?q=a")
        assert client.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert "cannot be used" in answer.json()["error"]


def test_no_answer_holds_a_secret() -> None:
    status, body = told(CatalogError("refused: password=hunter2hunter2", "token=abcdefgh12345678"))
    assert status == 503
    assert "hunter2" not in str(body)
    assert "abcdefgh" not in str(body)
    status, body = told(ValueError("the words of a library"))
    assert status == 500
    assert "words" not in str(body)


# Who may ask, and how.


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/lake", "/api/search?q=", "/nowhere"])
def test_every_answer_forbids_what_the_page_does_not_need(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/search?q=a", "/api/lake"])
def test_nothing_can_be_written(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.json()["error"] == "Method Not Allowed"


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:80", 200), ("rebound.example", 400), ("", 400)],
)
def test_a_site_whose_name_leads_here_is_refused(client: TestClient, host: str, status: int) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "is_private"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("box", False),
    ],
)
def test_an_interface_that_others_reach_is_warned_of(host: str, is_private: bool) -> None:
    progress = Told()
    tell_risk(host, progress)
    assert is_loopback(host) == is_private == (not progress.lines)
    assert is_private or "no authentication" in progress.lines[0]
    assert is_private == ("*" not in known_names(host))


def test_a_port_that_is_taken_is_named() -> None:
    with bound_socket("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        with socket.create_connection((host, port)):
            pass  # it can be connected to at once
        with pytest.raises(EnvironmentFault, match=rf"port {port} of 127.0.0.1 is taken.*--port N"):
            bound_socket(host, port)
    with pytest.raises(ConfigError, match="no interface"):
        bound_socket("no.such.host.invalid", 8765)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is no interface of this machine"):
        bound_socket("192.0.2.1", 8765)


def test_the_address_can_be_opened_by_a_browser() -> None:
    assert address("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert address("::1", 80) == "http://[::1]:80"
    assert address("0.0.0.0", 80) == "http://127.0.0.1:80"
