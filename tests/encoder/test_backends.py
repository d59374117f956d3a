"""Every backend gives the vectors of the plain one, and what is chosen is told."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipelines.encoder.backends.base import Backend
from pipelines.encoder.backends.choose import BackendName, calibrate, choose_backend
from pipelines.encoder.backends.fused import FusedBackend
from pipelines.encoder.backends.openvino import OpenVinoBackend
from pipelines.encoder.backends.packed import PackedBackend
from pipelines.encoder.backends.padded import PaddedBackend
from pipelines.encoder.conf import ModelConf, model_folder
from pipelines.encoder.fingerprint import Precision, multiplies_bfloat16
from pipelines.encoder.loading import load_transformer
from pipelines.encoder.model import Encoder, finish
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError
from tests.encoder.nomic import TRAINED, legacy_weights, nomic_conf, reference, save
from tests.encoder.texts import chunks

Row = npt.NDArray[np.int32]

# Below, at and beyond the trained length of the small nomic_bert.
LENGTHS = (3, 17, 17, 31, TRAINED, TRAINED + 1, 48, 48, 129)


@pytest.fixture(scope="module")
def nomic(tmp_path_factory: pytest.TempPathFactory) -> ModelConf:
    return nomic_conf(save(tmp_path_factory.mktemp("nomic"), legacy_weights()))


@pytest.fixture(scope="module")
def rows(tokenizer: Tokenizer) -> list[Row]:
    return tokenizer.model_inputs(chunks(tokenizer, 120), "")


def random_rows(lengths: tuple[int, ...] = LENGTHS) -> list[Row]:
    rng = np.random.default_rng(5)
    return [rng.integers(1000, 30000, size=length, dtype=np.int32) for length in lengths]


def loaded(conf: ModelConf, precision: Precision = "float32") -> object:
    return load_transformer(conf, model_folder(conf), precision)


def vectors(backend: Backend, rows: list[Row]) -> npt.NDArray[np.float32]:
    """Of rows that may share a batch."""
    with torch.inference_mode():
        pooled = backend.pool(backend.collate(Ragged.of(rows)))
        unit: npt.NDArray[np.float32] = finish(pooled, None, layer_norm=False).numpy()
    return unit


def lowest(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """The lowest cosine of two arrays' rows."""
    return float((a * b).sum(axis=1).min())


def test_one_product_for_many_layers_changes_nothing(
    minilm: ModelConf, nomic: ModelConf, rows: list[Row]
) -> None:
    for conf, some in (
        (minilm, rows),
        (nomic, random_rows((3, 17, 31, 32))),
        (nomic, random_rows((129, 129))),
    ):
        plain, fused = PaddedBackend(loaded(conf)), FusedBackend(loaded(conf))
        for batch in (some, some[:1]):
            np.testing.assert_allclose(vectors(fused, batch), vectors(plain, batch), atol=2e-6)


def test_rows_one_after_the_other_are_rows_padded(
    minilm: ModelConf, nomic: ModelConf, rows: list[Row]
) -> None:
    """Positions, learnt or rotary, begin anew with each row, and no row sees another."""
    for conf, some in (
        (minilm, rows),
        (nomic, random_rows((3, 17, 31, 32))),
        (nomic, random_rows((129, 129))),
    ):
        plain, packed = PaddedBackend(loaded(conf)), PackedBackend(loaded(conf))
        assert lowest(vectors(packed, some), vectors(plain, some)) > 0.99999
        np.testing.assert_allclose(vectors(packed, some), vectors(plain, some), atol=2e-6)
        assert packed.collate(Ragged.of(some)).ids.shape == (1, sum(map(len, some)))


_BFLOAT16 = multiplies_bfloat16(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
multiplies = pytest.mark.skipif(not _BFLOAT16, reason="this processor does not multiply bfloat16")


@pytest.mark.parametrize(
    ("precision", "least"), [("float32", 0.999999), pytest.param("bfloat16", 0.9999, marks=multiplies)]
)
def test_openvino_gives_the_vectors_of_the_same_key(
    minilm: ModelConf, rows: list[Row], precision: Precision, least: float
) -> None:
    ours, other = encoder(minilm, "torch", precision), encoder(minilm, "openvino", precision)
    assert ours.key == other.key
    assert lowest(ours.encode_ids(rows), other.encode_ids(rows)) > least


def encoder(conf: ModelConf, backend: BackendName, precision: Precision, threads: int = 1) -> Encoder:
    return Encoder.load(conf, device="cpu", precision=precision, threads=threads, backend=backend)


def test_openvino_gives_nomic_s_vectors_at_every_length(nomic: ModelConf) -> None:
    """A graph's frequencies are constants: rows beyond the trained length need others."""
    folder = model_folder(nomic)
    other = encoder(nomic, "openvino", "float32")
    rows = random_rows()
    np.testing.assert_allclose(other.encode_ids(rows), [reference(folder, row) for row in rows], atol=2e-5)


@multiplies
def test_openvino_stays_as_close_to_the_report_in_bfloat16_as_torch(nomic: ModelConf) -> None:
    """Random weights round worse than trained ones, in either backend."""
    folder = model_folder(nomic)
    rows = random_rows()
    expected = np.stack([reference(folder, row) for row in rows])
    names: tuple[BackendName, ...] = ("torch", "openvino")
    for name in names:
        both = encoder(nomic, name, "bfloat16", threads=2)
        assert lowest(both.encode_ids(rows), expected) > 0.999


@pytest.mark.skipif(
    torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has bfloat16 for this processor"
)
def test_where_a_processor_has_no_bfloat16_openvino_refuses_it_and_torch_has_it(
    minilm: ModelConf, rows: list[Row]
) -> None:
    with pytest.raises(ModelError, match="OpenVINO computes in f32 here, not in bfloat16"):
        encoder(minilm, "openvino", "bfloat16")
    chosen = encoder(minilm, "auto", "bfloat16")
    assert chosen.described.startswith("torch, bfloat16 (openvino cannot run the model")
    plain = encoder(minilm, "torch", "float32")
    assert lowest(chosen.encode_ids(rows), plain.encode_ids(rows)) > 0.9999


def test_openvino_refuses_what_would_end_the_process(nomic: ModelConf) -> None:
    with pytest.raises(ModelError, match="nomic_bert in bfloat16 on one thread"):
        encoder(nomic, "openvino", "bfloat16")
    chosen = Encoder.load(nomic, device="cpu", precision="bfloat16", threads=1, backend="auto")
    assert chosen.described.startswith("torch, bfloat16 (openvino cannot run the model: OpenVINO cannot run")


def test_openvino_leaves_the_choice_of_cores_to_the_system(minilm: ModelConf, rows: list[Row]) -> None:
    """Two encoders that each pin their threads to the first core share it."""
    encoding = encoder(minilm, "openvino", "float32")
    thread = threading.Thread(target=encoding.encode, args=(rows * 4,))
    thread.start()
    assert thread.native_id is not None
    seen = set()
    while thread.is_alive():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            seen.add(frozenset(os.sched_getaffinity(thread.native_id)))
    assert seen == {frozenset(os.sched_getaffinity(os.getppid()))}


def test_auto_takes_the_faster_and_says_by_how_much(minilm: ModelConf, rows: list[Row]) -> None:
    chosen = Encoder.load(minilm, device="cpu", precision="float32", threads=1, backend="auto")
    name = chosen.described.split(",")[0]
    assert name in ("torch", "openvino")
    assert "float32" in chosen.described
    speeds = [int(word.replace(",", "")) for word in chosen.described.split() if word[0].isdigit()]
    assert len(speeds) == 2
    assert speeds[0] >= speeds[1]
    ours = encoder(minilm, "torch", "float32")
    np.testing.assert_allclose(chosen.encode_ids(rows), ours.encode_ids(rows), atol=1e-5)


class Slowed(PaddedBackend):
    """Does everything three times."""

    def pool(self, batch):  # type: ignore[no-untyped-def]
        super().pool(batch)
        super().pool(batch)
        return super().pool(batch)


def test_a_calibration_tells_fast_from_slow(minilm: ModelConf) -> None:
    model = loaded(minilm)
    slow, fast = Slowed(model), PaddedBackend(model)
    speeds = dict(calibrate([slow, fast], minilm, 30522))
    assert speeds[fast] > speeds[slow]


def test_without_openvino_torch_is_taken_and_openvino_refused(
    minilm: ModelConf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.encoder.backends.openvino.find_spec", lambda name: None)
    model = loaded(minilm)
    backend, described = choose_backend("auto", minilm, model, "float32")
    assert isinstance(backend, FusedBackend)
    assert described == "torch, float32 (openvino is not installed)"
    with pytest.raises(ModelError, match=r"pip install 'embedlake\[openvino\]'"):
        choose_backend("openvino", minilm, model, "float32")


def test_a_model_that_openvino_cannot_convert_runs_in_torch(
    minilm: ModelConf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("unknown\noperation")

    monkeypatch.setattr(OpenVinoBackend, "__init__", refuse)
    _, described = choose_backend("auto", minilm, loaded(minilm), "float32")
    assert described == "torch, float32 (openvino cannot run the model: unknown operation)"


def test_what_needs_a_gpu_is_refused_without_one(minilm: ModelConf) -> None:
    with pytest.raises(ModelError, match="needs CUDA"):
        choose_backend("compiled", minilm, loaded(minilm), "float32")


def test_openvino_tells_its_makers_nothing(tmp_path: Path) -> None:
    """Its import sends a report unless the package that sends is out of reach."""
    code = (
        "import sys; from pipelines.encoder.backends.openvino import _openvino; _openvino(); "
        "print(sys.modules['openvino_telemetry'], 'openvino_telemetry.main' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]
