"""The three stages of nomic-embed-text-v1.5 on two cores: a nomic_bert from random weights."""

import json
from pathlib import Path

from rich.table import Table

from pipelines.lake import Lake, LakeConfig
from pipelines.lake.filters import equals
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.training_tables import PAIRS
from tests.benchmarks.small.place import Place, ndcg

TEXTS = "weak-texts"  # source of the chunks that the recipe of the first stage names
_STAGES = ("mlm", "pretrain", "finetune")
_RECIPES = Path(__file__).parents[3] / "conf/recipes/small/nomic"
_COLUMNS = ("pair_id", "query", "document", "outcome")


def trained_in_stages(place: Place, settings: tuple[str, ...]) -> Table:
    """Runs the stages, each from the one before, and finds held-out pairs with each one's model.

    Args:
        place: With pairs that are filtered, and negatives mined for them.
        settings: Of the command, before its name.

    Returns:
        nDCG@10 at the full dimension by stage and source of pairs, and their mean.
    """
    _curated(place)
    found = {}
    for stage in _STAGES:
        place.embedlake(*settings, "train", stage, "--recipe", str(_RECIPES / f"{stage}.yaml"))
        name = "small-nomic" if stage == "finetune" else f"small-nomic-{stage}"
        found[stage] = _held_out(place, name)
    sources = sorted(found[_STAGES[0]])
    table = Table(title="small-nomic, held-out pairs, nDCG@10", title_justify="left")
    for column in ("stage", *sources, "mean"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, scores in found.items():
        mean = sum(scores.values()) / len(scores)
        table.add_row(stage, *(f"{scores[source]:.4f}" for source in sources), f"{mean:.4f}")
    return table


def _curated(place: Place) -> None:
    """Has the kept pairs' texts cut into chunks: none that is held out, or of an evaluation set."""
    file = place.folder / f"{TEXTS}.jsonl"
    table = Lake.open(LakeConfig(dir=place.folder / "lake")).table(PAIRS.name)
    with file.open("w", encoding="utf-8") as out:
        for data in scan_files(table):
            for row in read_file(table, data, _COLUMNS, equals("outcome", "kept")).to_pylist():
                text = f"{row['query']}\n{row['document']}"
                out.write(json.dumps({"doc_id": row["pair_id"], "text": text}, ensure_ascii=False) + "\n")
    place.embedlake("curate", str(file), "--source", TEXTS, "--full")  # pairs that are gone go here too


def _held_out(place: Place, name: str) -> dict[str, float]:
    """nDCG@10 at the full dimension by source; measured once for a model."""
    model = str(place.folder / "models" / name / "model.yaml")
    out = place.report(model, "pairs")
    if not out.exists():
        options = ("--model", model, "--types", "float32", "--json", str(out))
        place.embedlake("evaluate", "pairs", *options)
    found = {source: ndcg(report) for source, report in json.loads(out.read_text()).items()}
    return {source: scores[max(scores)] for source, scores in found.items()}
