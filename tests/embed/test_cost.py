"""What a plan is said to take: by measured rates where there are some, else by the model's arithmetic."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipelines.embed.plan.cost import Work, expected, measured_rates, work
from pipelines.embed.plan.plan import Wanted
from pipelines.embed.plan.survey import survey
from pipelines.encoder.accelerators import ASSUMED_SHARE, accelerators
from pipelines.encoder.batches import token_budget_batches
from pipelines.encoder.conf import ModelConf, model_folder
from pipelines.encoder.flops import Flops, forward_flops
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.models import record_model
from pipelines.lake.runs import Run
from tests.chunks import append_chunks, corpus
from tests.embed.inline import embed_inline

_JOB = Work(units=10, rows=1000, tokens=3_600_000, padding=0.01, squares=3_600_000 * 256)


def _run(hardware: str, tokens: int, busy: float) -> Run:
    now = datetime.now(UTC)
    return Run(
        "r",
        "embed",
        "m@1",
        now,
        now,
        "done",
        None,
        hardware,
        1,
        1,
        0,
        0,
        0,
        1,
        1,
        0,
        tokens,
        tokens,
        busy,
        busy,
        busy,
    )


def test_the_arithmetic_of_minilm_is_that_of_its_matrices(conf: ModelConf) -> None:
    # Six layers of four 384 x 384 and two 384 x 1,536 matrices; a multiplication and an addition each.
    assert forward_flops(model_folder(conf)) == Flops(2 * 6 * (4 * 384**2 + 2 * 384 * 1536), 4 * 6 * 384)


def test_units_rows_and_tokens_are_counted_and_padding_is_near_the_real_one(
    lake: Lake, conf: ModelConf, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    append_chunks(lake, corpus(400, sources=("more",)), tokenizer, rows_per_file=200)
    plan = survey(lake, encoder.key)
    found = work(plan, 2000, 100, None, 2, 512)
    texts = lake.table("chunks").scan(selected_fields=("input_ids",)).to_arrow().column(0).to_pylist()
    lengths = [len(ids) + 2 for ids in texts]
    assert found.rows == 860
    assert found.tokens == pytest.approx(sum(lengths), rel=0.001)  # of slices they are reckoned
    assert found.units == len(list(plan.units(2000, 100)))
    batches = token_budget_batches(lengths, 512)
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
    together = work(plan, 10**6, 10**6, None, 2, 512)
    assert together.units == 1
    assert together.padding == pytest.approx(1 - sum(lengths) / padded, abs=0.02)
    assert work(plan, 2000, 100, 50, 2, 512).rows == 50


def test_measured_rates_come_before_reckoned_ones() -> None:
    flops = Flops(10**8, 0)
    kinds = accelerators()
    rates = measured_rates([_run("NVIDIA H100 80GB HBM3", 1_000_000, 5.0), _run("NVIDIA L4", 100, 1.0)])
    assert rates == {"NVIDIA H100 80GB HBM3": 200_000.0}  # of a hundred tokens nothing follows
    rows = {row.accelerator: row for row in expected(_JOB, flops, rates, kinds)}
    assert rows["H100"].measured
    assert rows["H100"].hours == pytest.approx(3_600_000 / 200_000 / 3600)
    assert rows["L4"].tokens_per_second == pytest.approx(121e12 * ASSUMED_SHARE / 1e8)
    assert not rows["L4"].measured
    for row in rows.values():
        assert row.cost is not None
        price = next(kind.price_per_hour for kind in kinds if kind.name == row.accelerator)
        assert price is not None
        assert row.cost == pytest.approx(row.hours * price)


def test_an_unknown_processor_is_shown_as_it_was_measured() -> None:
    rates = measured_rates([_run("Some CPU", 100_000, 10.0)] * 2)
    (row,) = expected(_JOB, Flops(1, 0), rates, [])
    assert (row.accelerator, row.tokens_per_second, row.measured, row.cost) == (
        "Some CPU",
        10_000,
        True,
        None,
    )


def test_runs_on_several_kinds_measure_none() -> None:
    assert measured_rates([_run("A, B", 100_000, 10.0)]) == {}


def test_the_command_tells_what_embed_would_do_and_does_nothing(lake: Lake, encoder: Encoder) -> None:
    embed_inline(lake, encoder)
    before = lake.table("embeddings").metadata_location
    folder = str(Path(str(lake.config.dir)))
    told = CliRunner().invoke(app, ["plan", "--lake", folder, "--set", "lake.buckets=2", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["done"], found["rows"], found["units"]) == (60, 0, 0)
    assert found["model"] == encoder.key
    assert lake.table("embeddings").metadata_location == before
    assert survey(lake, encoder.key, wanted=Wanted(limit=5)).pending_rows == 0


def test_a_model_that_has_changed_under_its_name_is_told_before_all_is_embedded_anew(
    lake: Lake, encoder: Encoder
) -> None:
    lake.ensure_tables()
    earlier = asdict(encoder.identity) | {"key": "minilm@000000000000", "precision": "float16"}
    record_model(lake.table("embeddings"), "minilm@000000000000", earlier)
    record_model(lake.table("embeddings"), "other@000000000000", earlier)
    folder = str(Path(str(lake.config.dir)))
    command = ["plan", "--lake", folder, "--set", "lake.buckets=2"]
    notice = "this lake has vectors by minilm@000000000000 (precision float16, now "
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert notice in " ".join(first.stderr.split())
    record_model(lake.table("embeddings"), encoder.key, asdict(encoder.identity))
    again = CliRunner().invoke(app, command)
    assert "vectors by" not in again.stderr
