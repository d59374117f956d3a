"""Chunking alone, one core, beside `tokenizers.encode_batch` on the same text; memory of long documents."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RawTokenizer

from pipelines.curate.chunk import chunk_document
from pipelines.curate.config import ChunkConfig
from pipelines.encoder.conf import TOKENIZER_FILE, load_model_conf, model_folder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.text import normalise
from tests.benchmarks.debian import Document, debian_descriptions, linux_docs
from tests.benchmarks.measure import fastest

_SAMPLE = 20_000
_BATCH = 1000
_LENGTHS_MB = (1, 10, 50)
_CONFIG = ChunkConfig()


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows = [
        _speed("Debian descriptions", debian_descriptions()[:_SAMPLE]),
        _speed("linux-doc", linux_docs()[:2000]),
        _memory(),
    ]
    print(json.dumps(rows))  # noqa: T201


def _speed(what: str, documents: Sequence[Document]) -> dict[str, str]:
    model = load_model_conf("minilm")
    tokenizer = Tokenizer.load(model)
    overhead = tokenizer.overhead(model.prefixes["document"])
    texts = [normalise(one.text) for one in documents]
    raw = RawTokenizer.from_file(str(model_folder(model) / TOKENIZER_FILE))
    raw.no_truncation()
    raw.no_padding()
    ratios = []
    for _ in range(3):  # by turns, since the machine's speed drifts
        ours, tokens = fastest(1, lambda: sum(_tokens(text, tokenizer, overhead) for text in texts))
        theirs, other = fastest(1, lambda: sum(_encoded(raw, texts)))
        ratios.append((theirs / ours, tokens / ours, other / theirs))
    ratio, mine, alone = sorted(ratios)[1]
    return {
        "what": f"chunking {len(texts):,} {what} to {_CONFIG.max_tokens} tokens, one core",
        "figure": f"{mine:,.0f} tokens/s",
        "beside": f"encode_batch alone on the same text: {alone:,.0f} ({ratio:.2f}x; the middle of three)",
    }


def _tokens(text: str, tokenizer: Tokenizer, overhead: int) -> int:
    return sum(len(chunk.input_ids) for chunk in chunk_document(text, tokenizer, _CONFIG, overhead))


def _encoded(raw: RawTokenizer, texts: Sequence[str]) -> list[int]:
    counts = []
    for at in range(0, len(texts), _BATCH):
        found: list[Any] = raw.encode_batch(texts[at : at + _BATCH], add_special_tokens=False)
        counts += [len(one.ids) for one in found]
    return counts


def _memory() -> dict[str, str]:
    """Peak memory of a process that chunks one long document, above what it held with the text at hand."""
    parts = []
    joined = normalise("\n\n".join(one.text for one in debian_descriptions()[:2000]))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "document.txt")
        for megabytes in _LENGTHS_MB:
            count = megabytes * 1_000_000
            file.write_text((joined * (count // len(joined) + 1))[:count])
            command = [sys.executable, "-m", "tests.benchmarks.chunk", str(file)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            parts.append((megabytes, *json.loads(done.stdout)))
    return {
        "what": "memory to chunk one document of " + ", ".join(f"{one}" for one in _LENGTHS_MB) + " MB",
        "figure": ", ".join(f"{above:,.0f} MiB" for _, above, _ in parts),
        "beside": "above the process with its text; chunks " + ", ".join(f"{n:,}" for *_, n in parts),
    }


def long_document(file: Path) -> None:
    """Chunks the document in the file; prints the MiB that it took, and the chunks."""
    model = load_model_conf("minilm")
    tokenizer = Tokenizer.load(model)
    overhead = tokenizer.overhead(model.prefixes["document"])
    text = file.read_text()
    for _ in chunk_document(text[:50_000], tokenizer, _CONFIG, overhead):
        pass
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is counted anew
    before = _peak_mib()
    count = sum(1 for _ in chunk_document(text, tokenizer, _CONFIG, overhead))
    print(json.dumps([_peak_mib() - before, count]))  # noqa: T201


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        long_document(Path(sys.argv[1]))
    else:
        main()
