"""Real texts with near twins: Debian's package descriptions and two versions of the kernel's documentation.

Fetched when asked for, by apt from the Debian sources that the machine is set up with, with lists and state
of its own in a cache folder: the machine's own lists stay as they are, and no root is needed. What is there
already is used again; remove the folder to fetch anew.
"""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

_APT = Path("/etc/apt")
_WANTED = ("linux-doc-6.1", "linux-doc-6.12")
_SOURCES = re.compile(r"usr/share/doc/linux-doc[^/]*/html/_sources/(.+?\.txt)(\.gz)?")


@dataclass(frozen=True)
class Document:
    """A text, its id within the corpus and the corpus' name."""

    doc_id: str
    text: str
    source: str


def cache_folder() -> Path:
    """Where the benchmarks keep what they fetch; made if absent."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "embedlake-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def debian_descriptions() -> list[Document]:
    """Every distinct pair of synopsis and long description, as the text "synopsis, line break, description".

    The id is the package's name; where a package has several descriptions, the later ones add a digest. Of
    packages that share a description the first one names it.

    Raises:
        RuntimeError: apt is not there, or gave nothing.
    """
    return _cached("debian-descriptions", lambda: _described(_translations(apt_conf())))


def linux_docs() -> list[Document]:
    """The pages of two versions of the kernel's documentation; the id is version/path.

    They are 6.1 and 6.12 where the machine's suites have both, else the newest two that they have.

    Raises:
        RuntimeError: apt is not there, or has no such package.
    """
    return _cached("linux-docs", lambda: _linux_pages(apt_conf()))


@dataclass(frozen=True)
class Package:
    """A binary package, as the lists tell of it.

    Attributes:
        name: Of the package.
        source: Name of the source package that it is built from.
        tags: Debtags, as `use::editing`.
    """

    name: str
    source: str
    tags: tuple[str, ...]


def packages() -> list[Package]:
    """Every binary package of the lists; of several versions the first.

    Raises:
        RuntimeError: apt is not there.
    """
    found: dict[str, Package] = {}
    for file in sorted((apt_conf().parent / "lists").glob("*_Packages")):
        for paragraph in file.read_text(encoding="utf-8").split("\n\n"):
            fields = dict(_fields(paragraph))
            if name := fields.get("Package"):
                source = fields.get("Source", name).partition(" ")[0]
                found.setdefault(name, Package(name, source, _tags(fields.get("Tag", ""))))
    return list(found.values())


def _tags(field: str) -> tuple[str, ...]:
    """`a::{b,c}, d::e` as three tags."""
    found = []
    for tag in re.split(r",\s+", field.replace("\n", " ").strip()):
        facet, _, values = tag.partition("::")
        inside = values.strip("{}").split(",") if values else []
        found += [f"{facet}::{value}" for value in inside]
    return tuple(found)


def write_jsonl(documents: Sequence[Document], folder: Path, shards: int = 1) -> list[Path]:
    """Writes doc_id, text and source as JSON lines, dealt out to as many files; replaces earlier ones.

    Args:
        documents: The rows.
        folder: Made if absent; its `*.jsonl` are removed first.
        shards: Files to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.jsonl"):
        stale.unlink()
    files = [folder / f"{shard:05d}.jsonl" for shard in range(shards)]
    for shard, file in enumerate(files):
        _write(documents[shard::shards], file)
    return files


def _cached(name: str, fetch: Callable[[], Iterable[Document]]) -> list[Document]:
    file = cache_folder() / f"{name}.jsonl"
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}.part")
        if not _write(fetch(), part):
            part.unlink()
            raise RuntimeError(f"apt gave no {name}")
        part.replace(file)
    with file.open(encoding="utf-8") as lines:
        return [Document(**json.loads(line)) for line in lines]


def _write(documents: Iterable[Document], file: Path) -> int:
    rows = 0
    with file.open("w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
            rows += 1
    return rows


def apt_conf() -> Path:
    """A configuration of apt with lists and state in the cache folder, the lists fetched.

    Raises:
        RuntimeError: apt is not there.
    """
    for command in ("apt-get", "apt-cache", "dpkg-deb"):
        if not shutil.which(command):
            raise RuntimeError(f"the Debian corpora need {command}, which is not on this machine")
    folder = cache_folder() / "apt"
    conf, fetched = folder / "apt.conf", folder / "fetched"
    if fetched.exists():
        return conf
    for place in ("lists/partial", "cache/archives/partial", "sources"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for file in [*_APT.glob("sources.list"), *_APT.glob("sources.list.d/*")]:
        if file.suffix in (".list", ".sources") and "/debian" in file.read_text():
            shutil.copy(file, folder / "sources" / file.name)
    conf.write_text(
        f"""Dir::State "{folder}";
        Dir::State::lists "{folder}/lists/";
        Dir::Cache "{folder}/cache";
        Dir::Etc::sourcelist "/dev/null";
        Dir::Etc::sourceparts "{folder}/sources";
        APT::Sandbox::User "root";
        Acquire::Languages "en";
        Acquire::GzipIndexes "false";
        #clear APT::Update;
        #clear Acquire::IndexTargets::deb::DEP-11;
        """
    )
    _run(["apt-get", "-qq", "-c", str(conf), "update"], folder)
    fetched.touch()
    return conf


def fetched_package(conf: Path, package: str) -> Path:
    """A package's .deb, fetched to the folder of `apt_conf`.

    Raises:
        RuntimeError: There is none.
    """
    _run(["apt-get", "-qq", "-c", str(conf), "download", package], conf.parent)
    (deb,) = conf.parent.glob(f"{package}_*.deb")
    return deb


def read_member(deb: Path, path: str) -> bytes:
    """A file in a package.

    Raises:
        RuntimeError: It is not there.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    packed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        content = members.extractfile(f"./{path}")
        if content is None:
            raise RuntimeError(f"{deb.name} has no {path}")
        return content.read()


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _translations(conf: Path) -> Iterator[tuple[str, str]]:
    """Package and English description: every package of the `Packages` lists is in these lists too."""
    for file in sorted((conf.parent / "lists").glob("*_Translation-en")):
        for paragraph in file.read_text(encoding="utf-8").split("\n\n"):
            fields = dict(_fields(paragraph))
            if "Description-en" in fields:
                yield fields["Package"], fields["Description-en"]


def _fields(paragraph: str) -> Iterator[tuple[str, str]]:
    """The fields of a control file's paragraph; a value's further lines keep their leading space."""
    for field in re.split(r"\n(?=\S)", paragraph.strip("\n")):
        name, _, value = field.partition(":")
        yield name, value.strip(" ")


def _described(descriptions: Iterable[tuple[str, str]]) -> Iterator[Document]:
    texts: set[str] = set()
    packages: set[str] = set()
    for package, description in descriptions:
        synopsis, _, body = description.partition("\n")
        lines = ["" if line == " ." else line.removeprefix(" ") for line in body.splitlines()]
        text = "\n".join([synopsis, *lines])
        if not body or text in texts:
            continue
        digest = blake2b(text.encode(), digest_size=6).hexdigest()
        yield Document(package if package not in packages else f"{package}#{digest}", text, "debian")
        texts.add(text)
        packages.add(package)


def _linux_pages(conf: Path) -> Iterator[Document]:
    for package in _linux_packages(conf):
        deb = fetched_package(conf, package)
        version = package.removeprefix("linux-doc-")
        yield from (Document(f"{version}/{path}", text, "linux-doc") for path, text in _pages(deb))
        deb.unlink()


def _linux_packages(conf: Path) -> list[str]:
    pattern = r"^linux-doc-[0-9]+\.[0-9]+$"
    found = _run(["apt-cache", "-c", str(conf), "search", "--names-only", pattern], conf.parent)
    names = {line.split()[0] for line in found.splitlines()}
    if names.issuperset(_WANTED):
        return list(_WANTED)
    return sorted(names, key=lambda name: [int(part) for part in re.findall("[0-9]+", name)])[-2:]


def _pages(deb: Path) -> Iterator[tuple[str, str]]:
    """Path and text of the pages in a package, read without unpacking it, in order of path."""
    pages: dict[str, str] = {}
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as packed,
        tarfile.open(fileobj=packed.stdout, mode="r|") as members,
    ):
        for member in members:
            match = _SOURCES.fullmatch(member.name.removeprefix("./"))
            content = members.extractfile(member) if match and member.isfile() else None
            if match and content:
                data = gzip.decompress(content.read()) if match[2] else content.read()
                pages[match[1]] = data.decode("utf-8", errors="replace")
    if packed.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    yield from sorted(pages.items())
