"""What peers need and this project does not: datatrove in its own environment, accelerate in a folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.debian import cache_folder

STEPS = ("signature", "buckets", "cluster", "filter")
_SCRIPT = Path(__file__).with_name("peer_datatrove.py")
_ACCELERATE = "accelerate==1.*"
_NEEDS = ("datatrove[processing]==0.10.*", "spacy", "orjson")  # spaCy's rules split English, without a model


def datatrove_seconds(folder: Path, workers: int = 2, steps: Sequence[str] = STEPS) -> dict[str, Any]:
    """Runs datatrove's MinHash steps; with workers=1 and ("signature",) it gives that step on one core.

    Args:
        folder: `*.jsonl` with doc_id and text, as `debian.write_jsonl` makes them; a task for each file.
        workers: Processes at a time; the clustering has one always.
        steps: The first so many of signature, buckets, cluster and filter.

    Returns:
        workers, seconds (by step, wall-clock: with several workers the start of processes included, with one
        that of the tokenizer), documents_in and, when all steps ran, documents_out and kept_ids (a file with
        an id a line, there until the next call).

    Raises:
        ValueError: The steps are not the first ones, or there are no files.
        RuntimeError: The environment cannot be made, or datatrove fails.
    """
    if not steps or tuple(steps) != STEPS[: len(steps)]:
        raise ValueError(f"steps must be the first of {', '.join(STEPS)}")
    if not any(folder.glob("*.jsonl")):
        raise ValueError(f"no *.jsonl in {folder}")
    python = datatrove_python()
    out = cache_folder() / "datatrove-out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # -P: this folder is not on the path, whose modules are no part of the peer.
    command = [str(python), "-P", str(_SCRIPT), str(folder.resolve()), str(out)]
    command += [f"--workers={workers}", f"--steps={len(steps)}"]
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    result: dict[str, Any] = json.loads(_run(command, offline).strip().splitlines()[-1])
    return result


def datatrove_python() -> Path:
    """The Python of an environment with datatrove in the cache folder, made at the first call."""
    folder = cache_folder() / "datatrove"
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    needs = "\n".join([*_NEEDS, sys.executable])
    if installed.exists() and installed.read_text() == needs:
        return python
    uv = _uv()
    shutil.rmtree(folder, ignore_errors=True)
    _run([uv, "venv", "-q", "--python", sys.executable, str(folder)])
    _run([uv, "pip", "install", "-q", "--python", str(python), *_NEEDS])
    installed.write_text(needs)
    return python


def accelerate_folder() -> Path:
    """A folder for PYTHONPATH with accelerate, which sentence-transformers' trainer needs.

    Raises:
        RuntimeError: It cannot be installed.
    """
    folder = cache_folder() / "accelerate"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        _run([_uv(), "pip", "install", "-q", "--no-deps", "--target", str(part), _ACCELERATE])
        part.rename(folder)
    return folder


def _uv() -> str:
    return shutil.which("uv") or str(Path(".uv/bin/uv").resolve())


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | (environment or {}))
    except OSError as error:
        raise RuntimeError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
