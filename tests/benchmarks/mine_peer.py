"""sentence-transformers' mine_hard_negatives on a file of pairs; its results are thrown away."""

import json
import sys
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from pipelines.encoder.conf import load_model_conf, model_folder


def main(pairs: Path) -> None:
    """Mines twenty negatives each, of the whole file, by its defaults."""
    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    data = Dataset.from_dict({name: [row[name] for row in rows] for name in ("query", "document")})
    folder = str(model_folder(load_model_conf("minilm")))
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    mined = mine_hard_negatives(data, model, num_negatives=20, relative_margin=0.05, output_format="n-tuple")
    print(len(mined), file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
