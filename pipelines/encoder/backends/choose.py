"""Which backend runs a model here: the one asked for, or the fastest of a short calibration."""

from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch

from pipelines.encoder.backends import openvino
from pipelines.encoder.backends.base import Backend
from pipelines.encoder.backends.fused import FusedBackend, can_fuse
from pipelines.encoder.backends.openvino import OpenVinoBackend
from pipelines.encoder.backends.packed import PackedBackend, can_pack
from pipelines.encoder.backends.padded import PaddedBackend
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import Precision
from pipelines.encoder.ragged import Ragged
from pipelines.errors import ModelError

BackendName = Literal["auto", "torch", "compiled", "openvino"]

_SECONDS = 1.5  # that a calibration may go on after each backend's first two passes
_ROUNDS = 8  # at most


def choose_backend(
    name: BackendName, conf: ModelConf, model: Any, precision: Precision
) -> tuple[Backend, str]:
    """A model's backend, and in a line why it is that one.

    Args:
        name: `torch`, `openvino` (CPU only), `compiled` (CUDA only), or `auto`: on a CPU the faster of the
            first two in a calibration of a second or two, elsewhere `torch`.
        conf: The model's configuration.
        model: In evaluation mode, on the device that it shall run on. A backend keeps what it needs of it.
        precision: Of the forward pass.

    Raises:
        ModelError: The backend asked for is not installed, or cannot run this model here.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    if name == "openvino":
        if not on_cpu:
            raise ModelError("the backend openvino runs on CPUs only", "Use device cpu, or the backend torch")
        return _openvino_backend(conf, model, precision, _torch_backend(model)), f"openvino, {precision}"
    if name == "compiled":
        if not can_pack(model):
            raise ModelError("the backend compiled needs CUDA and bfloat16", "Use the backend torch")
        return PackedBackend(model, compiled=True), f"torch, compiled, {precision}"
    torch_backend = _torch_backend(model)
    if name == "torch" or not on_cpu:
        return torch_backend, f"torch, {precision}"
    if not openvino.installed():
        return torch_backend, f"torch, {precision} (openvino is not installed)"
    try:
        other = _openvino_backend(conf, model, precision, torch_backend)
    except Exception as error:  # a converter that does not know a model raises types of its own
        reason = " ".join(str(error).split())[:100]
        return torch_backend, f"torch, {precision} (openvino cannot run the model: {reason})"
    speeds = calibrate([torch_backend, other], conf, model.config.vocab_size)
    (first, speed), (second, slower) = sorted(speeds, key=lambda pair: -pair[1])
    described = f"{precision}, {speed:,.0f} tokens/s in calibration; {second.name} {slower:,.0f}"
    return first, f"{first.name}, {described}"


def calibrate(backends: list[Backend], conf: ModelConf, vocab_size: int) -> list[tuple[Backend, float]]:
    """Tokens a second of each, on rows of random ids and of the lengths that chunks have.

    Args:
        backends: Measured in turn, so that a machine's slow moments meet all; the fastest pass counts.
        conf: Bounds the rows.
        vocab_size: Bounds the ids.
    """
    rng = np.random.default_rng(0)
    limit = min(conf.max_tokens, conf.rope.max_position_embeddings if conf.rope else conf.max_tokens)
    batches = [  # full rows, and uneven shorter ones as their neighbours in the order of lengths would be
        Ragged.of([rng.integers(0, vocab_size, size=max(1, min(length, limit))) for length in lengths])
        for lengths in ([256] * 6, range(96, 106))
    ]
    tokens = sum(len(rows.values_T) for rows in batches)
    fastest = [float("inf")] * len(backends)
    started = perf_counter()
    with torch.inference_mode():
        for round_ in range(_ROUNDS):
            for place, backend in enumerate(backends):
                before = perf_counter()
                for rows in batches:
                    backend.pool(backend.collate(rows))
                if round_:  # the first pass makes buffers and kernels
                    fastest[place] = min(fastest[place], perf_counter() - before)
            if round_ and perf_counter() - started > _SECONDS:
                break
    return [(backend, tokens / seconds) for backend, seconds in zip(backends, fastest, strict=True)]


def _torch_backend(model: Any) -> Backend:
    if can_pack(model):
        return PackedBackend(model)
    on_cpu = next(model.parameters()).device.type == "cpu"
    return FusedBackend(model) if on_cpu and can_fuse(model) else PaddedBackend(model)


def _openvino_backend(conf: ModelConf, model: Any, precision: Precision, longer: Backend) -> Backend:
    rope = conf.rope
    needs_longer = rope is not None and conf.max_tokens > rope.max_position_embeddings
    return OpenVinoBackend(model, precision, rope, longer if needs_longer else None)
