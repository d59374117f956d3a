import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.encoder.conf import ModelConf, RopeConf
from pipelines.encoder.fingerprint import (
    describe_model,
    file_sha256,
    model_key,
    multiplies_bfloat16,
    resolve_precision,
)
from pipelines.errors import ModelError


def test_a_model_is_described_without_torch(minilm: ModelConf) -> None:
    code = (
        "import sys; from pipelines.encoder.conf import load_model_conf; "
        "from pipelines.encoder.fingerprint import describe_model; "
        "print(describe_model(load_model_conf('minilm'), 'float32')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(describe_model(minilm, "float32")), "False"]


def test_a_description_holds_what_a_table_records(minilm: ModelConf) -> None:
    identity = describe_model(minilm, "float32")
    assert re.fullmatch(r"minilm@[0-9a-f]{12}", identity.key)
    assert identity.weights_sha256 == minilm.weights_sha256
    assert (identity.dimension, identity.vocab_size, identity.precision) == (384, 30522, "float32")
    assert describe_model(minilm).precision == resolve_precision(minilm, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"prefixes": {"document": "passage", "query": ""}},
        {"layer_norm": True},
        {"dimension": 383},
        {"rope": RopeConf(rope_theta=1000, max_position_embeddings=2048)},
        {"name": "other"},
    ],
)
def test_the_key_changes_with_all_that_changes_a_document_s_vector(
    minilm: ModelConf, change: dict[str, Any]
) -> None:
    key = model_key(minilm, "float32", "tokenizer", "weights")
    assert model_key(minilm.model_copy(update=change), "float32", "tokenizer", "weights") != key
    assert model_key(minilm, "bfloat16", "tokenizer", "weights") != key
    assert model_key(minilm, "float32", "another", "weights") != key
    assert model_key(minilm, "float32", "tokenizer", "others") != key


def test_the_key_stays_where_vectors_do(minilm: ModelConf) -> None:
    moved = minilm.model_copy(
        update={
            "package": None,
            "path": Path("/elsewhere"),
            "max_tokens": 100,
            "evaluation_tokens": 50,
            "dimensions": (384,),
            "precision": "float32",
            "prefixes": {"document": "", "query": "ask"},
        }
    )
    key = model_key(minilm, "float32", "tokenizer", "weights")
    assert model_key(moved, "float32", "tokenizer", "weights") == key


def test_the_key_of_a_table_is_for_ever(minilm: ModelConf) -> None:
    """Another key for the same model would orphan every vector stored under this one."""
    assert describe_model(minilm, "float32").key == "minilm@2d1b37007a2c"
    assert describe_model(minilm, "bfloat16").key == "minilm@1231011430ab"


def test_other_weights_than_named_are_refused(minilm: ModelConf) -> None:
    with pytest.raises(ModelError, match=f"should have {'0' * 64}"):
        describe_model(minilm.model_copy(update={"weights_sha256": "0" * 64}), "float32")


def test_an_unresolved_precision_is_refused(minilm: ModelConf) -> None:
    with pytest.raises(ModelError, match="no precision 'auto'"):
        describe_model(minilm, "auto")


def test_auto_is_what_the_processor_multiplies(minilm: ModelConf) -> None:
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert resolve_precision(minilm, "cpu") == ("bfloat16" if has else "float32")
    assert resolve_precision(minilm, "cuda:1") == "bfloat16"
    assert resolve_precision(minilm, "mps") == "float32"
    assert resolve_precision(minilm.model_copy(update={"precision": "float32"}), "cuda") == "float32"
    assert resolve_precision(minilm.model_copy(update={"precision": "bfloat16"}), "cpu") == "bfloat16"


def test_processors_are_told_apart_by_their_flags() -> None:
    def cpuinfo(flags: str) -> str:
        return f"processor\t: 0\nmodel name\t: some\nflags\t\t: fpu avx2 {flags}\nbugs\t\t:\n"

    assert multiplies_bfloat16(cpuinfo("avx512f avx512_bf16"))  # AMD Zen 4, Intel Cooper Lake
    assert multiplies_bfloat16(cpuinfo("amx_bf16 amx_tile"))  # Intel Sapphire Rapids
    assert not multiplies_bfloat16(cpuinfo("avx512f avx512_vnni"))  # Intel Ice Lake
    assert not multiplies_bfloat16("processor\t: 0\nFeatures\t: fp asimd\n")


def test_a_file_is_hashed_whole(tmp_path: Path) -> None:
    data = b"x" * 3_000_000
    (tmp_path / "file").write_bytes(data)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()
