import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.demo_corpus import (
    LONG_CHARS,
    MIN_CHARS,
    DemoCorpus,
    Document,
    docstrings,
    documents,
    module_name,
    one_word_changed,
    shortened,
    write_demo_corpus,
)

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["doc_id", "text", "source", "kind", "path"]
CODE = '''
"""The module."""
class Public:
    """A class."""
    def method(self):
        """
        A method.

            indented
        """
        def inner():
            """Within a function."""
    def _private(self):
        """Private."""
    async def later(self):
        """Later."""
class _Hidden:
    """Hidden."""
    def method(self):
        """Within a hidden class."""
def broken():
    "half a pair: \\ud83d"
def silent(): ...
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "corpus"


@pytest.fixture(scope="module")
def corpus(folder: Path) -> DemoCorpus:
    return write_demo_corpus(folder)


@pytest.fixture(scope="module")
def rows(corpus: DemoCorpus, folder: Path) -> list[dict[str, Any]]:
    return read(folder)


def read(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        else:
            found += [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return found


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of the word 5-grams."""
    one, other = (
        {tuple(words[at : at + 5]) for at in range(len(words) - 4)} for words in (left.split(), right.split())
    )
    return len(one & other) / len(one | other)


def test_it_writes_what_it_says_in_one_schema(
    corpus: DemoCorpus, rows: list[dict[str, Any]], folder: Path
) -> None:
    assert corpus.count == len(rows) == 4000
    assert 8 <= len(corpus.sources) <= 10
    assert {row["source"] for row in rows} == set(corpus.sources)
    assert {row["kind"] for row in rows} == {"module", "class", "function"}
    assert all(list(row) == COLUMNS for row in rows)
    assert len({row["doc_id"] for row in rows}) == len(rows)
    assert [path.name for path in sorted(folder.iterdir())] == [
        "documents-0.parquet", "documents-1.parquet", "documents-2.parquet", "documents.jsonl.gz",
    ]  # fmt: skip


def test_every_text_is_a_name_and_a_docstring_worth_a_search(rows: list[dict[str, Any]]) -> None:
    good = [row for row in rows if row["path"]]
    assert all(row["text"].startswith(row["doc_id"].partition("#")[0] + "\n\n") for row in good)
    assert not any(Path(row["path"]).is_absolute() or "/tests/" in row["path"] for row in good)
    lengths = sorted(len(row["text"]) for row in good)
    assert MIN_CHARS < lengths[len(lengths) // 2] < 1200
    assert 10 <= sum(length > LONG_CHARS for length in lengths) <= 100


def test_exact_twins_have_the_text_of_the_document_that_they_copy(
    corpus: DemoCorpus, rows: list[dict[str, Any]]
) -> None:
    texts = {row["doc_id"]: row["text"] for row in rows}
    copies = [doc_id for doc_id in texts if doc_id.endswith("#copy")]
    assert len(copies) == corpus.exact_twins == 80
    assert all(texts[doc_id] == texts[doc_id.removesuffix("#copy")] for doc_id in copies)


def test_near_twins_are_near_and_not_equal(corpus: DemoCorpus, rows: list[dict[str, Any]]) -> None:
    texts = {row["doc_id"]: row["text"] for row in rows}
    edited = [doc_id for doc_id in texts if doc_id.endswith("#edited")]
    assert len(edited) == corpus.near_twins == 80
    assert all(0.8 <= similarity(texts[one], texts[one.removesuffix("#edited")]) < 1 for one in edited)


def test_the_rejects_have_no_text_to_speak_of(corpus: DemoCorpus, rows: list[dict[str, Any]]) -> None:
    assert len([row for row in rows if not (row["text"] or "").strip()]) == corpus.rejects == 3


def test_the_same_call_writes_the_same_bytes_and_another_seed_other_twins(
    folder: Path, tmp_path: Path
) -> None:
    def written(seed: int) -> list[bytes]:
        write_demo_corpus(tmp_path, target_documents=300, seed=seed)
        return [path.read_bytes() for path in sorted(tmp_path.iterdir())]

    first, again, other = written(0), written(0), written(1)
    assert first == again != other
    assert len(read(tmp_path)) == 300


def test_no_documented_package_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from jobs.demo_corpus import write_demo_corpus;"
        f"found = write_demo_corpus(Path({str(tmp_path)!r}), 50);"
        # pyarrow itself imports these two.
        "print(found.count, set(found.sources) & set(sys.modules) - {'numpy', 'pandas'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "50 set()\n"


def test_public_names_are_found_and_private_or_local_ones_are_not() -> None:
    assert docstrings(CODE.encode(), "some.module") == [
        ("some.module", "module", "The module."),
        ("some.module.Public", "class", "A class."),
        ("some.module.Public.method", "function", "A method.\n\n    indented"),
        ("some.module.Public.later", "function", "Later."),
    ]


@pytest.mark.parametrize("code", [b"def broken(:", b"\0", b"\xff\xfe"])
def test_code_that_is_not_python_has_no_docstrings(code: bytes) -> None:
    assert docstrings(code, "module") == []


def test_a_package_that_is_not_installed_has_no_documents() -> None:
    assert list(documents("no_such_package_here")) == []


def test_module_names() -> None:
    assert module_name(Path("a/b/__init__.py")) == "a.b"
    assert module_name(Path("a/b.py")) == "a.b"


@given(st.text(alphabet="ab \n", max_size=300), st.integers(10, 100))
def test_a_shortened_text_is_a_beginning_that_fits(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert text.startswith(short)
    assert len(short) <= limit
    if len(text) <= limit:
        assert short == text.rstrip()


def test_a_text_is_shortened_after_a_paragraph_else_a_line_else_a_word() -> None:
    assert shortened("aaa aaa\n\nbbb\nbbb\n\nccc", 18) == "aaa aaa\n\nbbb\nbbb"
    assert shortened("aaa aaa\nbbb bbb ccc", 12) == "aaa aaa"
    assert shortened("aaa aaa aaa aaa", 12) == "aaa aaa aaa"
    assert shortened("a" * 20, 12) == "a" * 12


def test_one_word_of_the_docstring_is_changed() -> None:
    document = Document("a.name", "a.name\n\nsome words here, other words there", "a", "class", "a.py")
    for seed in range(20):
        changed = one_word_changed(document, random.Random(seed))
        assert changed.doc_id == "a.name#edited"
        before, after = (document.text or "").split(), (changed.text or "").split()
        assert len(before) == len(after)
        assert sum(left != right for left, right in zip(before, after, strict=True)) == 1
