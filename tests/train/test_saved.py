"""The model that a run leaves, read by those who use it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from pipelines.cluster.session import RaySession
from pipelines.config import conf_dir
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.loading import load_head
from pipelines.encoder.model import Encoder
from pipelines.errors import ModelError
from pipelines.train.start import load_embedder, starting_point
from tests.train.lakes import contrastive
from tests.train.place import SENTENCES, Place

ROLES = ("query", "document")


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
