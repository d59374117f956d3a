"""`make train-small`: real weak pairs to Matryoshka models on two cores, judged by what they never saw.

Each step is a command of `embedlake` that goes on where it was stopped: run again after a kill. Cranfield and
DebTags judge at the end; nothing is chosen by them.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.__main__ import machine
from tests.benchmarks.small.nomic import trained_in_stages
from tests.benchmarks.small.place import Place, model_name

DIMS = (384, 256, 128, 64, 32)
RECIPES = Path(__file__).parents[3] / "conf/recipes/small"
# A checkpoint about every five minutes: a run of 200 steps has none before its end by the default. The graphs
# of a whole step are kept, some 7.5 GB.
SETTINGS = ("--set=train.checkpoint_steps=25", "--set=train.keep_tokens=32768")
# Each ablation is the recipe before it with one thing changed.
FINETUNED = ("minilm-matryoshka", "without-matryoshka", "without-filter", "with-negatives", "without-head")
NOMIC = "nomic"  # three stages from random weights
ALL = (*FINETUNED, NOMIC)


def main() -> None:
    """Runs what the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.small", description=__doc__)
    parser.add_argument("recipes", nargs="*", default=ALL, metavar=f"{{{','.join(ALL)}}}")
    parser.add_argument("--dir", type=Path, help="folder of the lake and the models")
    given = parser.parse_args()
    place = Place(given.dir)
    place.prepare()
    place.embedlake("pairs", "--sources", str(RECIPES / "pairs.yaml"))
    place.embedlake("filter")
    place.embedlake("mine")
    console = Console(width=120)
    console.print(machine(), highlight=False)
    if NOMIC in given.recipes:
        console.print(trained_in_stages(place, SETTINGS))
    if not (finetuned := [name for name in given.recipes if name != NOMIC]):
        return
    models = ["minilm"]
    for name in finetuned:
        place.embedlake(*SETTINGS, "train", "finetune", "--recipe", str(RECIPES / f"{name}.yaml"))
        models.append(str(place.folder / "models" / name / "model.yaml"))
    for table in judged(place, models):
        console.print(table)


def judged(place: Place, models: list[str]) -> list[Table]:
    """For each evaluation set nDCG@10 by model and dimension, beside its share of the full dimension's."""
    found = {model: place.judged(model, DIMS) for model in models}
    tables = []
    for name in place.sets:
        table = Table(title=f"{name}, nDCG@10 (share of own {DIMS[0]})", title_justify="left")
        table.add_column("model", no_wrap=True)
        for dim in DIMS:
            table.add_column(str(dim), justify="right")
        for model in models:
            scores = found[model][name]
            full = scores[DIMS[0]]
            shown = [f"{full:.4f}", *(f"{scores[dim]:.4f} ({scores[dim] / full:.1%})" for dim in DIMS[1:])]
            table.add_row(model_name(model), *shown)
        tables.append(table)
    return tables


if __name__ == "__main__":
    main()
