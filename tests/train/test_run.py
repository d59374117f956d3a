"""Whole runs on real Ray Train workers."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load, load_file, save_file
from sentence_transformers import SentenceTransformer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModel, AutoTokenizer

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.config import conf_dir
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.loading import load_head
from pipelines.encoder.model import Encoder
from pipelines.errors import ModelError, TrainingError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.training_counts import run_steps
from pipelines.train.checkpoints import Checkpoints
from pipelines.train.config import Micro, TrainConfig
from pipelines.train.recipe import Recipe
from pipelines.train.run import TrainReport, check_recipe, train
from pipelines.train.start import load_embedder, starting_point
from pipelines.train.state import position_of
from pipelines.train.worker import StepReport, WorkerJob, run_worker
from pipelines.train.workers import Workers
from tests.told import Told
from tests.train.drive import STEPS
from tests.train.lakes import contrastive, masked_lm, weights, write_batches

ROLES = ("query", "document")
HERE: dict[str, Any] = {
    "micro": Micro(200, 200),
    "device": "cpu",
    "bfloat16": False,
    "threads": None,
    "gradient_checkpointing": False,
    "checkpoint_steps": 5,
    "keep_checkpoints": 2,
}
SENTENCES = [
    "A small planet.",
    "Sort a table by several columns, descending",
    "heat transfer through a boundary layer at high speed, measured in a wind tunnel",
    "Zürich",
    "an empty list has no first element",
]


class _Stopped(Exception):  # noqa: N818 - it stands for a kill
    """In place of a kill, in the middle of a run."""


class Place:
    """A lake with batches, and where runs of it write."""

    def __init__(self, folder: Path, steps: int, batch: int, texts: int, **layout: Any) -> None:
        self.folder = folder
        self.lake = Lake.open(LakeConfig(dir=folder / "lake"))
        self.prepared = write_batches(self.lake, steps, batch, texts, **layout)

    def train(self, recipe: Recipe, workers: int = 1, **config: Any) -> TrainReport:
        settings = TrainConfig(
            workers=workers,
            precision="float32",
            threads=1,
            out=self.folder / "models",
            logs=self.folder / "logs",
            **{"checkpoint_steps": 5, **config},
        )
        return train(self.lake, recipe, self.prepared, settings, RayConfig(), Told())

    def train_here(self, recipe: Recipe, stop_after: int | None = None, **config: Any) -> list[StepReport]:
        """One worker in this process, without Ray Train, and without a model at the end."""
        reports: list[StepReport] = []
        job = WorkerJob(
            lake=self.lake.config.model_copy(update={"dir": self.lake.config.root}),
            recipe=recipe,
            prepared=self.prepared,
            **{**HERE, **config},
        )

        def told(report: StepReport) -> None:
            reports.append(report)
            if len(reports) == stop_after:
                raise _Stopped

        run_worker(job, Workers(), torch.device("cpu"), told)
        return reports

    def losses(self, name: str, tag: str = "train/loss") -> list[float]:
        events = EventAccumulator(str(self.folder / "logs" / name))
        events.Reload()
        return [event.value for event in events.Scalars(tag)]


@pytest.fixture
def place(tmp_path: Path, ray_session: RaySession) -> Place:
    del ray_session
    return Place(tmp_path, steps=8, batch=16, texts=4)


@pytest.mark.slow
def test_two_workers_are_one(tmp_path: Path, ray_session: RaySession) -> None:
    """At the same global batch: the losses of every step, at every dimension."""
    del ray_session
    place = Place(tmp_path, steps=50, batch=16, texts=4)
    place.train(contrastive(name="one"), 1)
    place.train(contrastive(name="two"), 2)
    for tag in ("train/loss", "train/loss_32", "train/loss_16", "train/loss_8"):
        one, two = place.losses("one", tag), place.losses("two", tag)
        assert len(one) == 50
        np.testing.assert_allclose(one, two, rtol=1e-4)
    losses = place.losses("one")
    assert np.mean(losses[-5:]) < np.mean(losses[:5]), "nothing was learnt"
    assert max(place.losses("one", "train/gradient_norm")) > 0
    assert max(place.losses("one", "train/learning_rate")) == pytest.approx(1e-3)


@pytest.mark.slow
def test_masking_is_the_same_for_two_workers(tmp_path: Path, ray_session: RaySession) -> None:
    del ray_session
    place = Place(tmp_path, steps=14, batch=8, texts=1)
    place.prepared = replace(place.prepared, steps=12)
    place.train(masked_lm(name="one", held_out=2), 1)
    place.train(masked_lm(name="two", held_out=2), 2)
    for tag in ("train/loss", "held_out/loss"):
        np.testing.assert_allclose(place.losses("one", tag), place.losses("two", tag), rtol=1e-4)
    conf = load_model_conf(str(tmp_path / "models/one/model.yaml"))
    assert Encoder.load(conf, device="cpu").encode_texts(SENTENCES).shape == (len(SENTENCES), 32)


def test_held_out_sequences_are_told_of_and_not_trained_on(tmp_path: Path, ray_session: RaySession) -> None:
    del ray_session
    own = Place(tmp_path / "own", steps=8, batch=8, texts=1)
    own.prepared = replace(own.prepared, steps=6)
    told = own.train_here(masked_lm(name="own", held_out=2), checkpoint_steps=4)
    assert [report.step for report in told] == [0, 1, 2, 3, 4, 5]
    looked = {report.step: report.held_out for report in told if report.held_out is not None}
    assert looked.keys() == {3, 5}, "at each checkpoint"
    # By a model of random weights every token of 30,528 is as likely: it has learnt some.
    assert 5 < looked[5] < looked[3] < np.log(30_528) + 0.5
    checkpoints = Checkpoints(own.lake, "own")
    wanted = checkpoints.newest()
    checkpoints.delete()
    plain = own.train_here(masked_lm(name="own"), checkpoint_steps=4)
    assert [report.losses for report in plain] == [report.losses for report in told]
    assert weights_of(checkpoints.newest()) == weights_of(wanted)


def weights_of(checkpoint: bytes | None) -> dict[str, bytes]:
    assert checkpoint is not None
    return {name: tensor.numpy().tobytes() for name, tensor in load(checkpoint).items()}


@pytest.mark.parametrize("head", [None, {"peak": 0.01}])
def test_the_saved_model_gives_the_same_vectors_everywhere(
    place: Place, head: dict[str, float] | None
) -> None:
    """In sentence-transformers, in transformers by hand, and in the encoder that `embed` runs."""
    prefixes = {"document": "search_document", "query": "search_query"}
    report = place.train(contrastive(prefixes=prefixes, head=head))
    folder = Path(report.model).parent
    conf = load_model_conf(report.model)
    assert (conf.dimensions, conf.layer_norm, conf.prefixes) == ((32, 16, 8), True, prefixes)
    ours = Encoder.load(conf, device="cpu", precision="float32")
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    for role in ROLES:
        wanted = ours.encode_texts(SENTENCES, role)
        from_them = theirs.encode(SENTENCES, prompt_name=role)
        assert np.einsum("nd,nd->n", wanted, from_them).min() >= 0.99999
        texts = [f"{prefixes[role]}: {text}" for text in SENTENCES]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        if head:
            pooled = pooled @ load_file(folder / "2_Dense/model.safetensors")["linear.weight"].T
        by_hand = torch.nn.functional.normalize(torch.nn.functional.layer_norm(pooled, (32,)), dim=1)
        assert np.einsum("nd,nd->n", wanted, by_hand.numpy()).min() >= 0.99999
    paths = [module["path"] for module in json.loads((folder / "modules.json").read_text())]
    assert paths[1:] == ["1_Pooling", *(["2_Dense"] if head else []), *paths[-2:]]
    assert paths[-2].endswith("_LayerNorm")


def test_a_head_is_part_of_the_key_and_trained_on(place: Place) -> None:
    first = place.train(contrastive(head={"peak": 0.01}))
    conf = load_model_conf(first.model)
    assert conf.head is not None
    assert conf.head.sha256 is not None
    without = conf.model_copy(update={"head": None})
    assert describe_model(conf).key != describe_model(without).key
    wrong = conf.model_copy(update={"head": conf.head.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(ModelError, match=r"should have 0000.*"):
        describe_model(wrong)
    matrix = Path(first.model).parent / "2_Dense/model.safetensors"
    learnt = load_file(matrix)["linear.weight"]
    assert not torch.equal(learnt, torch.eye(32))
    start = starting_point(contrastive(name="second", start=first.model, architecture=None, tokenizer=None))
    second = load_embedder(contrastive(name="second"), start, torch.device("cpu"))
    assert second.head is not None
    assert torch.equal(second.head.weight, learnt)
    save_file({"linear.weight": torch.eye(16)}, matrix)
    with pytest.raises(ModelError, match="should hold"):
        load_head(conf, matrix.parent.parent, 32)


def test_minilm_is_trained_and_saved_as_it_came(
    tmp_path: Path, ray_session: RaySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By relative paths, which mean the folder that the command is run in."""
    del ray_session
    monkeypatch.chdir(tmp_path)
    shutil.copy(conf_dir() / "models/minilm.yaml", "own.yaml")
    place = Place(Path(), steps=2, batch=4, texts=3)
    recipe = contrastive(
        architecture=None,
        tokenizer=None,
        start="own.yaml",
        batch=4,
        negatives=1,
        objective={"dimensions": [384, 64]},
        optimiser={"peak": 1e-5, "warmup_steps": 1},
    )
    place.train_here(recipe)
    report = place.train(recipe)
    conf = load_model_conf(report.model)
    assert (conf.dimensions, conf.layer_norm, conf.dimension) == ((384, 64), False, 384)
    vectors = Encoder.load(conf, device="cpu", precision="float32").encode_texts(SENTENCES)
    untrained = Encoder.load(load_model_conf("minilm"), device="cpu", precision="float32")
    similarity = np.einsum("nd,nd->n", vectors, untrained.encode_texts(SENTENCES))
    assert 0.9 < similarity.min() < 0.999999
    theirs = SentenceTransformer(str(Path(report.model).parent), device="cpu", local_files_only=True)
    assert np.einsum("nd,nd->n", vectors, theirs.encode(SENTENCES)).min() >= 0.99999


def test_a_run_goes_on_from_any_checkpoint_to_the_same_weights(place: Place) -> None:
    """Dropout, order and moments included: what was done before the stop is as if it had not stopped."""
    recipe = contrastive(dropout=0.1)
    whole = place.train_here(recipe, checkpoint_steps=8)
    checkpoints = Checkpoints(place.lake, "tiny")
    wanted = checkpoints.newest()
    checkpoints.delete()
    with pytest.raises(_Stopped):
        place.train_here(recipe, checkpoint_steps=3, stop_after=5)
    resumed = place.train_here(recipe, checkpoint_steps=8)
    assert [report.step for report in resumed] == [3, 4, 5, 6, 7]
    assert [report.losses for report in resumed] == [report.losses for report in whole[3:]]
    assert checkpoints.newest() == wanted


def test_layers_that_are_computed_again_give_the_same(place: Place) -> None:
    plain = place.train_here(contrastive(name="plain", dropout=0.1))
    again = place.train_here(contrastive(name="again", dropout=0.1), gradient_checkpointing=True)
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_a_fitted_head_is_the_same_after_a_stop_before_the_first_checkpoint(
    tmp_path: Path, ray_session: RaySession
) -> None:
    del ray_session
    place = Place(tmp_path, steps=3, batch=4, texts=2, guide=384)
    recipe = contrastive(
        architecture=None,
        tokenizer=None,
        start="minilm",
        batch=4,
        negatives=0,
        sources=[{"name": "s"}],
        objective={"dimensions": [384, 32], "guide": {"model": "minilm", "mask": False, "distil": 1.0}},
        head={"fit_steps": 5, "peak": 1e-9},
    )
    place.train_here(recipe)
    checkpoints = Checkpoints(place.lake, "tiny")
    wanted = checkpoints.newest()
    assert wanted is not None
    head = load(wanted)["weight.head.weight"]
    # Turned to other axes, which the three steps at next to no rate have not done.
    assert (head - torch.eye(384)).norm() > 10
    checkpoints.delete()
    with pytest.raises(_Stopped):
        place.train_here(recipe, stop_after=1)
    place.train_here(recipe)
    assert weights_of(checkpoints.newest()) == weights_of(wanted)


def test_only_the_newest_checkpoints_stay(place: Place) -> None:
    place.train_here(contrastive(), checkpoint_steps=2, keep_checkpoints=3)
    rows = place.lake.table("checkpoints").scan(selected_fields=("step",)).to_arrow()
    assert sorted(rows.column("step").to_pylist()) == [4, 6, 8]
    assert run_steps(place.lake) == {"tiny": 8}


def test_a_damaged_checkpoint_is_passed_over(place: Place) -> None:
    checkpoints = Checkpoints(place.lake, "tiny")
    checkpoints.save(1, b"whole", keep=2)
    checkpoints.save(2, b"cut short", keep=2)
    (file,) = (place.folder / "lake/warehouse").rglob("checkpoint-2-*.parquet")
    rows = pq.read_table(file)
    at = rows.schema.get_field_index("data")
    pq.write_table(rows.set_column(at, rows.schema.field("data"), pa.array([b"cut"], pa.binary())), file)
    assert checkpoints.newest() == b"whole"


def test_a_finished_run_is_written_again_without_training(place: Place) -> None:
    place.train_here(contrastive())
    first = place.train(contrastive())
    trained = weights(Path(first.model).parent)
    (Path(first.model).parent / "left-over").touch()
    again = place.train(contrastive())
    assert (first.resumed, again.resumed, again.tokens) == (8, 8, 0)
    assert not (Path(again.model).parent / "left-over").exists()
    for name, weight in weights(Path(again.model).parent).items():
        np.testing.assert_array_equal(weight, trained[name])


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(place: Place) -> None:
    optimiser = {"peak": 1e30, "clip": None, "warmup_steps": 20, "schedule": "constant"}
    with pytest.raises(TrainingError, match=r"step \d+ of 'tiny', a batch of s, has a loss of"):
        place.train_here(contrastive(optimiser=optimiser), checkpoint_steps=1)
    kept = Checkpoints(place.lake, "tiny").newest()
    assert kept is not None
    assert 0 < position_of(kept).step < 8


def test_checkpoints_of_another_recipe_are_refused(place: Place) -> None:
    place.train_here(contrastive())
    with pytest.raises(TrainingError, match="are of another recipe"):
        place.train(contrastive(seed=1))
    check_recipe(place.lake, contrastive())
    with pytest.raises(TrainingError, match="are of another recipe"):
        check_recipe(place.lake, contrastive(seed=1))
    place.prepared = type(place.prepared)("other", 8, 16, 2)
    with pytest.raises(TrainingError, match="are of other batches"):
        place.train(contrastive())


def test_dimensions_larger_than_the_models_are_refused(place: Place) -> None:
    with pytest.raises(ModelError, match="'tiny' has 64"):
        place.train(contrastive(objective={"dimensions": [64, 32]}))


@pytest.mark.slow
def test_killed_and_run_again_the_weights_are_the_same(tmp_path: Path) -> None:
    """kill -9 of a worker and then of the driver, two workers with dropout, against a run left alone."""
    results = []
    for name in ("alone", "killed"):
        place = Place(tmp_path / name, steps=STEPS, batch=16, texts=4)
        drive = [sys.executable, "-m", "tests.train.drive"]
        command = [*drive, str(place.lake.config.dir), str(tmp_path / name), "2"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        if name == "killed":
            _wait_for_step(place, process, 4)
            _worker_of(process).kill()
            _wait_for_step(place, process, 16)
            process.kill()
            process.communicate()
            assert not (tmp_path / name / "tiny").exists()
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        _, said = process.communicate(timeout=400)
        assert process.returncode == 0, said
        results.append(weights(tmp_path / name / "tiny"))
    for key, weight in results[0].items():
        np.testing.assert_array_equal(weight, results[1][key])


def _wait_for_step(place: Place, process: "subprocess.Popen[str]", step: int) -> None:
    checkpoints = Checkpoints(place.lake, "tiny")
    while (newest := checkpoints.newest()) is None or position_of(newest).step < step:
        assert process.poll() is None, process.communicate()[1]


def _worker_of(process: "subprocess.Popen[str]") -> psutil.Process:
    (worker, *_) = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "RayTrainWorker" in " ".join(child.cmdline())
    ]
    return worker
