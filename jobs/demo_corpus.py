"""The demo's corpus: docstrings of the installed packages, read as text by `ast`, never imported."""

import ast
import gzip
import inspect
import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MIN_CHARS = 200
MAX_CHARS = 560  # with it 4,000 documents are somewhat under 600,000 tokens
LONG_CHARS = 3_000
_LONG_EACH = 12  # of the docstrings over LONG_CHARS, every so many is kept whole, so that chunking shows
_TWIN_SHARE = 0.02
_TWIN_WORDS = 70  # a near twin of fewer words would not be near: one word is in five word 5-grams
_SOURCES = 10
_PARQUET_FILES = 3
_DEFINITION = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_HIDDEN = re.compile(r"tests?|testing|test_.*|conftest|setup|_(internal|private|testing|vendor)")

# Packages that the library itself depends on, so that every environment has them, and where in each the
# documentation is that a person would search. What is not found is passed over, what is not named comes last.
_PACKAGES = {
    "pandas": "core/frame.py core/reshape io/parsers io/parquet.py io/sql.py core/groupby core/generic.py "
    "core/series.py core/window core/strings core/indexes",
    "numpy": "_core/fromnumeric.py lib linalg random ma polynomial",
    "pyspark": "sql/dataframe.py sql/readwriter.py sql/session.py sql/window.py ml sql/functions",
    "torch": "nn/modules optim nn/functional.py utils/data distributions nn/utils autograd",
    "ray": "data/dataset.py data/read_api.py data train tune serve util",
    "networkx": "algorithms/shortest_paths algorithms/centrality algorithms classes generators",
    "sympy": "solvers ntheory geometry stats physics combinatorics",
    "sqlalchemy": "orm engine sql dialects",
    "transformers": "trainer_callback.py generation pipelines tokenization_utils_base.py trainer.py",
    "pyiceberg": "table catalog io",
    "pydantic": "",
    "fsspec": "",
    "rich": "",
    "botocore": "",
    "jinja2": "",
    "aiohttp": "",
}


@dataclass(frozen=True)
class Document:
    """One row of the corpus; `kind` and `path` are its metadata."""

    doc_id: str
    text: str | None
    source: str
    kind: str
    path: str


@dataclass(frozen=True)
class DemoCorpus:
    """What was written.

    Attributes:
        count: Rows, all kinds of twins and rejects included.
        exact_twins: Rows made as copies of another, under another id.
        near_twins: Rows made as copies with one word changed; some docstrings resemble each other by nature.
        rejects: Rows without a text to speak of.
        sources: The packages, in order.
    """

    count: int
    exact_twins: int
    near_twins: int
    rejects: int
    sources: tuple[str, ...]


def write_demo_corpus(folder: Path, target_documents: int = 4000, seed: int = 0) -> DemoCorpus:
    """Writes Parquet files and one gzipped JSONL file: doc_id, text, source, kind, path.

    The same environment, target and seed give the same bytes; what an earlier call wrote is replaced.

    Args:
        folder: Made if absent.
        target_documents: Rows to write; fewer where the environment has too few docstrings.
        seed: Which documents get a twin.

    Raises:
        OSError: The folder cannot be written.
    """
    sources = [name for name in _PACKAGES if _package_folder(name)][:_SOURCES]
    twins = round(target_documents * _TWIN_SHARE)
    rejects = _rejects(sources[0])
    wanted = max(target_documents - 2 * twins - len(rejects), 0)
    originals = _shared_out([documents(name) for name in sources], wanted)
    draw = random.Random(seed)  # noqa: S311 - a choice that must come out the same again
    exact = [replace(one, doc_id=f"{one.doc_id}#copy") for one in _drawn(draw, originals, twins)]
    wordy = [one for one in originals if len((one.text or "").split()) >= _TWIN_WORDS]
    near = [one_word_changed(one, draw) for one in _drawn(draw, wordy, twins)]
    everything = [*originals, *exact, *near, *rejects]
    _write(folder, everything, sources)
    return DemoCorpus(len(everything), len(exact), len(near), len(rejects), tuple(sources))


def documents(package: str) -> Iterator[Document]:
    """The documented public names of an installed package, the most looked-up places first."""
    folder = _package_folder(package)
    if folder is None:
        return
    seen: set[str] = set()
    long = itertools.count()
    for file in _code_files(folder, _PACKAGES.get(package, "").split()):
        path = file.relative_to(folder.parent)
        for name, kind, docstring in docstrings(file.read_bytes(), module_name(path)):
            if len(docstring) < MIN_CHARS or name in seen:
                continue
            seen.add(name)
            is_whole = len(docstring) > LONG_CHARS and next(long) % _LONG_EACH == 0
            text = f"{name}\n\n{docstring if is_whole else shortened(docstring, MAX_CHARS)}"
            yield Document(name, text, package, kind, path.as_posix())


def docstrings(code: bytes, module: str) -> list[tuple[str, str, str]]:
    """Qualified name, kind and cleaned docstring of a module and of its public classes and functions."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):  # a template, or a file for another Python
        return []
    found = []
    pending: list[tuple[str, str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]
    pending = [(module, "module", tree)]
    while pending:
        name, kind, node = pending.pop(0)
        docstring = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
        if docstring and _is_text(docstring):
            found.append((name, kind, docstring))
        if isinstance(node, ast.Module | ast.ClassDef):
            for child in node.body:
                if isinstance(child, _DEFINITION) and not child.name.startswith("_"):
                    kind = "class" if isinstance(child, ast.ClassDef) else "function"
                    pending.append((f"{name}.{child.name}", kind, child))
    return found


def module_name(path: Path) -> str:
    """The dotted name of the module in a file: `a/b/__init__.py` is `a.b`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def shortened(text: str, limit: int) -> str:
    """The leading paragraphs that fit into `limit` characters; of a too long first one, its leading lines."""
    for separator in ("\n\n", "\n", " "):
        if len(text) <= limit:
            break
        cut = text.rfind(separator, limit // 3, limit + 1)
        if cut > 0:
            text = text[:cut]
    return text[:limit].rstrip()


def one_word_changed(document: Document, draw: random.Random) -> Document:
    """The document under another id, with one word of its text replaced by another of its words."""
    name, _, docstring = (document.text or "").partition("\n\n")
    words = list(re.finditer(r"\b[a-z]{4,}\b", docstring))
    place = draw.choice(words)
    other = draw.choice(sorted({word.group() for word in words} - {place.group()}))
    changed = docstring[: place.start()] + other + docstring[place.end() :]
    return replace(document, doc_id=f"{document.doc_id}#edited", text=f"{name}\n\n{changed}")


def _package_folder(name: str) -> Path | None:
    found = util.find_spec(name)  # of a package at the top: finds it without importing it
    folders = list(found.submodule_search_locations or ()) if found else []
    return Path(folders[0]) if folders else None


def _code_files(folder: Path, places: Sequence[str]) -> Iterator[Path]:
    """The files in `places`, then the package's others, each once; a folder is listed when it is reached."""
    seen: set[Path] = set()
    for place in (*places, ""):
        start = folder / place
        for file in [start] if start.suffix else sorted(start.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if file in seen or any(_HIDDEN.fullmatch(part) for part in parts) or not file.is_file():
                continue
            seen.add(file)
            yield file


def _is_text(docstring: str) -> bool:
    try:
        docstring.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, written as an escape
        return False
    return True


def _shared_out(sources: Sequence[Iterator[Document]], wanted: int) -> list[Document]:
    """`wanted` documents, as evenly from all sources as those that have fewer allow."""
    taken: list[list[Document]] = [[] for _ in sources]
    open_sources = list(range(len(sources)))
    while open_sources and (missing := wanted - sum(map(len, taken))) > 0:
        share = -(-missing // len(open_sources))
        for at in tuple(open_sources):
            more = list(itertools.islice(sources[at], min(share, wanted - sum(map(len, taken)))))
            taken[at] += more
            if len(more) < share:
                open_sources.remove(at)
    return list(itertools.chain.from_iterable(taken))


def _drawn(draw: random.Random, documents: Sequence[Document], count: int) -> list[Document]:
    return draw.sample(documents, min(count, len(documents)))


def _rejects(source: str) -> list[Document]:
    texts = {"empty": "", "blank": " \n\t\u00a0\n", "missing": None}
    return [Document(f"demo.{name}", text, source, "function", "") for name, text in texts.items()]


def _write(folder: Path, documents: Sequence[Document], sources: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The last source in JSON lines, the others dealt out to Parquet files: a corpus may mix formats.
    lines = [one for one in documents if one.source == sources[-1]]
    _replace(folder / "documents.jsonl.gz", gzip.compress(_jsonl(lines), mtime=0))
    for number in range(_PARQUET_FILES):
        dealt = set(sources[:-1][number::_PARQUET_FILES])
        _replace(
            folder / f"documents-{number}.parquet",
            _parquet([one for one in documents if one.source in dealt]),
        )


def _rows(documents: Sequence[Document]) -> list[dict[str, Any]]:
    return [vars(one) for one in documents]


def _jsonl(documents: Sequence[Document]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(documents)).encode()


def _parquet(documents: Sequence[Document]) -> bytes:
    columns = ("doc_id", "text", "source", "kind", "path")
    schema = pa.schema([(name, pa.string()) for name in columns])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(_rows(documents), schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_bytes(content)
    unfinished.replace(path)
