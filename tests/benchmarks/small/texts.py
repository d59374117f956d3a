"""Weak pairs from life: docstrings, Debian's package descriptions, and three dictionaries that Debian has.

Fetched when asked for, as `tests.benchmarks.debian` does, and kept in its cache folder; nothing is committed.
"""

import gzip
import json
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.demo_corpus import docstrings
from tests.benchmarks.debian import apt_conf, cache_folder, debian_descriptions, fetched_package, packages
from tests.benchmarks.small.debtags import tells_subject

_MOST_CHARS = 1500  # of a document: a recipe cuts far shorter
_LEAST_CHARS = {"docstring": 60, "debian": 40, "foldoc": 40, "gcide": 40, "wordnet": 1, "families": 1}
_FAMILY = 6  # synsets: some 100 tokens
_HYPONYM = ("~", "~i")  # wndb(5WN): a kind, an instance
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"  # digits of dictd's index


@dataclass(frozen=True)
class Pair:
    """A row of the table that the pairs are declared of.

    Attributes:
        source: Where it is from.
        query: The short side.
        document: The long side, cut.
        part: What a split must not tear apart: a Python package, a Debian source package, an entry.
        judged: Whether its package is among those that DebTags judges by.
    """

    source: str
    query: str
    document: str
    part: str
    judged: bool = False


def weak_pairs() -> list[Pair]:
    """All of them.

    Raises:
        RuntimeError: apt is not there, or has not one of the packages.
    """
    makers: dict[str, Callable[[], Iterable[Pair]]] = {
        "debian": _debian,
        "docstring": docstring_pairs,
        "foldoc": lambda: _dictionary("foldoc"),
        "gcide": lambda: _dictionary("gcide"),
        "wordnet": _wordnet,
        "families": _families,
    }
    return [pair for name, make in makers.items() for pair in _cached(name, make)]


def _cached(name: str, make: Callable[[], Iterable[Pair]]) -> Iterator[Pair]:
    file = cache_folder() / f"pairs-{name}.jsonl"
    if not file.exists():
        part = file.with_suffix(".part")
        with part.open("w", encoding="utf-8") as out:
            for pair in make():
                if len(pair.document) >= _LEAST_CHARS[name] and pair.query:
                    out.write(json.dumps(asdict(pair), ensure_ascii=False) + "\n")
        part.replace(file)
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield Pair(**json.loads(line))


def _debian() -> Iterator[Pair]:
    """Synopsis and description, by source package."""
    known = {package.name: package for package in packages()}
    judged = {package.source for package in known.values() if any(map(tells_subject, package.tags))}
    for document in debian_descriptions():
        name = document.doc_id.partition("#")[0]
        source = known[name].source if name in known else name
        synopsis, _, body = document.text.partition("\n")
        yield Pair("debian", synopsis.strip(), _line(body), source, source in judged)


def docstring_pairs() -> Iterator[Pair]:
    """First line and the rest, of everything that is installed here."""
    folder = Path(sysconfig.get_path("purelib"))
    seen: set[str] = set()
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder)
        if any(part.startswith("test") for part in inside.parts):
            continue
        for _, _, text in docstrings(file.read_bytes(), ""):
            summary, _, body = text.partition("\n")
            if len(summary) > 15 and text not in seen:
                seen.add(text)
                yield Pair("docstring", summary.strip(), _line(body), inside.parts[0])


def _dictionary(name: str) -> Iterator[Pair]:
    """Headword and entry, of a dictionary in dictd's format."""
    folder = _unpacked(f"dict-{name}")
    index = next(folder.glob("usr/share/dictd/*.index"))
    text = gzip.decompress(index.with_suffix(".dict.dz").read_bytes())
    seen: set[tuple[str, str]] = set()
    for line in index.read_text(encoding="utf-8").splitlines():
        word, offset, size = line.split("\t")
        if word.startswith("00") or (offset, size) in seen:  # the dictionary itself; another spelling
            continue
        seen.add((offset, size))
        start = _number(offset)
        entry = text[start : start + _number(size)].decode("utf-8", "replace")
        if name == "foldoc":
            word, _, entry = entry.partition("\n")
        else:
            entry = entry.partition("]")[2] or entry  # after the pronunciation and the origin
        yield Pair(name, word.strip(), _line(re.sub(r"[{}\[\]]", "", entry)), word)


@dataclass(frozen=True)
class Synset:
    """An entry of WordNet.

    Attributes:
        words: That have its meaning.
        gloss: Definition and examples.
        members: Ids of its hyponyms and instances.
    """

    words: list[str]
    gloss: str
    members: list[str]

    @property
    def definition(self) -> str:
        """Without the examples, which are in quotation marks."""
        return self.gloss.partition('; "')[0]


def _wordnet() -> Iterator[Pair]:
    """The words of a synset and its gloss."""
    for name, synset in _synsets().items():
        yield Pair("wordnet", ", ".join(synset.words), synset.gloss, name)


def _families() -> Iterator[Pair]:
    """The definition of a synset and a text on what is of its kind: passages on every subject there is."""
    synsets = _synsets()
    for name, synset in synsets.items():
        for at in range(0, len(synset.members), _FAMILY):
            asked, *others = synset.members[at : at + _FAMILY]
            if len(others) < _FAMILY // 2:
                break
            kinds = (f"{synsets[other].words[0]}: {synsets[other].definition}" for other in others)
            text = f"{synset.words[0]}: {synset.definition}. {'; '.join(kinds)}"
            yield Pair("families", synsets[asked].definition, _line(text), name)


def _synsets() -> dict[str, Synset]:
    found = {}
    for file in sorted(_unpacked("wordnet-base").glob("usr/share/wordnet/data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition("|")
            fields = head.split()
            rest = 4 + 2 * int(fields[3], 16)
            words = [fields[at].partition("(")[0].replace("_", " ") for at in range(4, rest, 2)]
            pointers = range(rest + 1, rest + 1 + 4 * int(fields[rest]), 4)
            members = [fields[at + 2] + fields[at + 1] for at in pointers if fields[at] in _HYPONYM]
            found[fields[2] + fields[0]] = Synset(words, _line(gloss), members)
    return found


def _unpacked(package: str) -> Path:
    folder = cache_folder() / package
    if not folder.exists():
        deb = fetched_package(apt_conf(), package)
        part = folder.with_suffix(".part")
        subprocess.run(["dpkg-deb", "-x", str(deb), str(part)], check=True)
        deb.unlink()
        part.rename(folder)
    return folder


def _number(digits: str) -> int:
    total = 0
    for digit in digits:
        total = total * 64 + _BASE64.index(digit)
    return total


def _line(text: str) -> str:
    """In one line, cut at the end of a word."""
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= _MOST_CHARS else text[:_MOST_CHARS].rpartition(" ")[0]
