"""200,000 documents of one template beside 200,000 that share nothing, and what was removed of them."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.templates import WORDS, write_templates

_COUNT = 200_000


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_templates(folder / "template", _COUNT)
        write_templates(folder / "distinct", _COUNT, own=WORDS)
        template, distinct = (_run(folder, kind) for kind in ("template", "distinct"))
    find = "finding duplicates"
    ratio = template["steps"][find]["seconds"] / distinct["steps"][find]["seconds"]
    row = {
        "what": f"{_COUNT:,} documents of one template, whose similarity is 0.76; session start apart",
        "figure": f"{template['seconds']:.0f} s, {template['near']} removed",
        "beside": f"{_COUNT:,} distinct ones: {distinct['seconds']:.0f} s "
        f"({template['seconds'] / distinct['seconds']:.2f}x; finding duplicates alone {ratio:.2f}x)",
    }
    print(json.dumps([row]))  # noqa: T201


def _run(folder: Path, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.scale_run", str(folder / f"lake-{kind}")]
    done = subprocess.run([*command, str(folder / kind)], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
