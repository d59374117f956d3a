"""DebTags as a retrieval data set: what Debian's developers said of packages, in BEIR's layout.

A query is what the vocabulary calls a tag, of the facets that tell what a package is for or about; its
answers are the packages that have the tag. Facets of how a package is built or shown are left out.
"""

import json
import re
from pathlib import Path

from tests.benchmarks.debian import apt_conf, debian_descriptions, fetched_package, packages, read_member

_SUBJECTS = "accessibility admin biology culture field game hardware mail network office privacy protocol"
FACETS = frozenset([*_SUBJECTS.split(), *"science security sound use web works-with".split()])  # noqa: SIM905
_VOCABULARY = "usr/share/debtags/vocabulary"


def write_debtags(folder: Path) -> dict[str, Path]:
    """Writes corpus, queries and judgements, and says where; files that are there already stay.

    Raises:
        RuntimeError: apt is not there, or has no debtags.
    """
    files = {
        "corpus": folder / "corpus.jsonl",
        "queries": folder / "queries.jsonl",
        "qrels": folder / "qrels.tsv",
    }
    if files["qrels"].exists():  # written last
        return files
    folder.mkdir(parents=True, exist_ok=True)
    names = tag_names(_vocabulary())
    tags = {package.name: [tag for tag in package.tags if tag in names] for package in packages()}
    texts = {document.doc_id: document.text for document in debian_descriptions()}
    documents = {name: texts[name] for name, own in sorted(tags.items()) if own and name in texts}
    asked = sorted({tag for name in documents for tag in tags[name]})
    _write_lines(files["corpus"], [{"_id": name, "text": text} for name, text in documents.items()])
    _write_lines(files["queries"], [{"_id": tag, "text": names[tag]} for tag in asked])
    rows = [f"{tag}\t{name}\t1" for name in documents for tag in tags[name]]
    part = files["qrels"].with_suffix(".part")
    part.write_text("\n".join(["query-id\tcorpus-id\tscore", *sorted(rows)]) + "\n", encoding="utf-8")
    part.replace(files["qrels"])
    return files


def tag_names(vocabulary: str) -> dict[str, str]:
    """What each tag of `FACETS` is called in a vocabulary file, by tag."""
    found = re.findall(r"^Tag: (\S+)\n(?:\S+: .*\n)*?Description: (.+)$", vocabulary, re.MULTILINE)
    return {tag: name.strip() for tag, name in found if tells_subject(tag)}


def tells_subject(tag: str) -> bool:
    """Whether a tag says what a package is for or about; `TODO` is of packages that nobody has tagged yet."""
    facet, _, value = tag.partition("::")
    return facet in FACETS and value != "TODO"


def _vocabulary() -> str:
    deb = fetched_package(apt_conf(), "debtags")
    text = read_member(deb, _VOCABULARY).decode("utf-8")
    deb.unlink()
    return text


def _write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
