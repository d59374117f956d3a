"""Whole runs on real Ray Train workers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

from pipelines.cluster.session import RaySession
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.errors import ModelError, TrainingError
from pipelines.lake.training_counts import run_steps
from pipelines.train.checkpoints import Checkpoints
from pipelines.train.run import check_recipe
from pipelines.train.state import position_of
from tests.train.drive import STEPS
from tests.train.lakes import contrastive, masked_lm, weights
from tests.train.place import SENTENCES, Place, Stopped


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


def test_a_run_goes_on_from_any_checkpoint_to_the_same_weights(place: Place) -> None:
    """Dropout, order and moments included: what was done before the stop is as if it had not stopped."""
    recipe = contrastive(dropout=0.1)
    whole = place.train_here(recipe, checkpoint_steps=8)
    checkpoints = Checkpoints(place.lake, "tiny")
    wanted = checkpoints.newest()
    checkpoints.delete()
    with pytest.raises(Stopped):
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
    with pytest.raises(Stopped):
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
