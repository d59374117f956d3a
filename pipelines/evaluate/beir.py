"""A retrieval data set in BEIR's layout: documents, queries, and judgements of which answers which."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipelines.errors import InputError

_COLUMNS = ("query-id", "corpus-id", "score")


@dataclass(frozen=True)
class Document:
    """A document of the corpus.

    Attributes:
        title: Empty where there is none.
        text: May be empty.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Dataset:
    """A corpus, queries and judgements.

    Attributes:
        documents: By id, sorted by it.
        queries: Texts by id, sorted by it.
        codes: The judgements' scores as the file has them, by document by query; they may name documents and
            queries that are absent.
    """

    documents: dict[str, Document]
    queries: dict[str, str]
    codes: dict[str, dict[str, int]]


def read_dataset(corpus: Path, queries: Path, qrels: Path) -> Dataset:
    """Reads the three files.

    Args:
        corpus: JSON lines with `_id`, `text` and maybe `title`.
        queries: JSON lines with `_id` and `text`.
        qrels: Tab-separated, with the header `query-id corpus-id score`.

    Raises:
        InputError: A file cannot be read, is empty or malformed, an id or a judgement comes twice, a query is
            empty (it is nothing to look for), or no judgement is of a query that is there. Names the line.
    """
    documents: dict[str, Document] = {}
    for where, record in _json_lines(corpus):
        identity = _new(_identity(record, where), documents, where)
        title = _text(record, "title", where) if record.get("title") is not None else ""
        documents[identity] = Document(title, _text(record, "text", where))
    texts: dict[str, str] = {}
    for where, record in _json_lines(queries):
        identity = _new(_identity(record, where), texts, where)
        texts[identity] = _text(record, "text", where)
        if not texts[identity].strip():
            _refuse(where, "the query is empty", "Remove it, and its judgements")
    codes = _read_qrels(qrels)
    for read, file in ((documents, corpus), (texts, queries), (codes, qrels)):
        if not read:
            raise InputError(f"{file} holds nothing", "Give a data set in BEIR's layout")
    if not any(query in codes for query in texts):
        raise InputError(
            f"{qrels} judges none of the queries in {queries}", "The files are of different data sets"
        )
    return Dataset(dict(sorted(documents.items())), dict(sorted(texts.items())), codes)


def _read_qrels(file: Path) -> dict[str, dict[str, int]]:
    codes: dict[str, dict[str, int]] = {}
    lines = _lines(file)
    where, header = next(lines, (f"{file}, line 1", ""))
    columns = header.split("\t")
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        _refuse(
            where, f"the header lacks {', '.join(missing)}", "Begin with query-id, corpus-id, score and tabs"
        )
    places = [columns.index(name) for name in _COLUMNS]
    for where, line in lines:
        cells = line.split("\t")
        if len(cells) != len(columns):
            _refuse(where, f"{len(cells)} columns instead of {len(columns)}", "Separate them by tabs")
        query, document, code = (cells[place].strip() for place in places)
        graded = codes.setdefault(query, {})
        if document in graded:
            _refuse(where, f"document '{document}' of query '{query}' is judged twice", "Keep one of the two")
        try:
            graded[document] = int(code)
        except ValueError:
            _refuse(where, f"the score '{code}' is no whole number", "")
    return codes


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not blank, with where each is."""
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{file}, line {number}", line.rstrip("\r\n")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8: {error.reason}", "Convert it first") from error


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in _lines(file):
        try:
            record = json.loads(line)
        except ValueError as error:
            _refuse(where, f"this is not JSON: {error}", "Write an object a line")
        if not isinstance(record, dict):
            _refuse(where, f"this is a {type(record).__name__}", "Write an object a line")
        yield where, record


def _identity(record: dict[str, Any], where: str) -> str:
    identity = record.get("_id")
    if not isinstance(identity, str | int) or isinstance(identity, bool) or identity == "":
        _refuse(where, "there is no '_id'", "Give each record one, a string")
    return str(identity)


def _text(record: dict[str, Any], field: str, where: str) -> str:
    text = record.get(field)
    if not isinstance(text, str):
        _refuse(where, f"there is no '{field}', or it is no string", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(where, f"'{field}' holds half a character, a lone surrogate", "Mend the text")
    return text


def _new(identity: str, known: dict[str, Any], where: str) -> str:
    if identity in known:
        _refuse(where, f"the id '{identity}' came before", "Ids must be unique")
    return identity


def _refuse(where: str, what: str, hint: str) -> NoReturn:
    raise InputError(f"{where}: {what}", hint)
