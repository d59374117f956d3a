"""OpenVINO on CPUs: an optional package (`pip install 'embedlake[openvino]'`), converted to at load."""
# ruff: noqa: N806  (tensor names carry their shape: x_BD)

import copy
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.encoder.backends.base import Backend, Batch, collate_padded
from pipelines.encoder.conf import RopeConf
from pipelines.encoder.fingerprint import Precision
from pipelines.encoder.loading import quiet
from pipelines.encoder.ragged import Ragged
from pipelines.errors import ModelError

_HINTS = {"bfloat16": "bf16", "float32": "f32"}


class OpenVinoBackend:
    """A compiled graph, for rows of any number and length."""

    name = "openvino"
    pads = True

    def __init__(
        self, model: Any, precision: Precision, rope: RopeConf | None = None, longer: Backend | None = None
    ) -> None:
        """Converts a transformers model, and keeps nothing of it.

        Args:
            model: In evaluation mode and on the CPU.
            precision: Of the forward pass.
            rope: The model's, if it has one.
            longer: What computes rows beyond `rope.max_position_embeddings`: their frequencies depend on
                their length, and a graph's are constants. None where there are no such rows.

        Raises:
            ModelError: The processor does not offer the precision, or OpenVINO cannot run the model in it.
        """
        ov = _openvino()
        threads = torch.get_num_threads()
        if precision == "bfloat16" and threads == 1 and model.config.model_type != "bert":
            # 2026.4.1 divides by zero when it compiles nomic_bert so, which ends the process.
            raise ModelError(
                f"OpenVINO cannot run a {model.config.model_type} in bfloat16 on one thread",
                "Use two threads or more, or the backend torch",
            )
        self._pad_id = int(getattr(model.config, "pad_token_id", None) or 0)
        self._longer = longer
        self._limit = rope.max_position_embeddings if rope else None
        example = torch.ones(2, 2, dtype=torch.long)
        with torch.inference_mode(), quiet(), _without_tracer_warnings():
            # float32 copies of the weights, exactly what the model holds; the graph rounds as the hint says.
            pooled = _Pooled(copy.deepcopy(model).float())
            graph = ov.convert_model(pooled, example_input={"ids": example, "mask": example})
        hints = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # It would pin its threads from the first core on: two encoders of one thread got one core.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = ov.Core().compile_model(graph, "CPU", hints)
        given = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if given != _HINTS[precision]:
            raise ModelError(
                f"OpenVINO computes in {given} here, not in {precision}", "Use the backend torch"
            )
        self._request = compiled.create_infer_request()

    def collate(self, rows: Ragged) -> Batch:
        """See `Backend`."""
        return collate_padded(rows, self._pad_id)

    def pool(self, batch: Batch) -> Tensor:
        """See `Backend`."""
        if self._limit is not None and batch.longest > self._limit:
            assert self._longer is not None  # the configuration allows such rows only with dynamic RoPE
            return self._longer.pool(batch)
        inputs = {"ids": batch.ids.numpy(), "mask": batch.mask_BL.long().numpy()}
        (x_BD,) = self._request.infer(inputs).values()
        return torch.from_numpy(x_BD.copy())  # the request keeps its memory for the next batch


class _Pooled(nn.Module):
    """The model with the mean in the same graph."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """x_BD of ids_BL and of a mask_BL of ones and zeros."""
        hidden_BLD = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        own_BL1 = mask[..., None].float()
        pooled: Tensor = (hidden_BLD * own_BL1).sum(dim=1) / own_BL1.sum(dim=1)
        return pooled


def installed() -> bool:
    """Whether the optional package is there."""
    return find_spec("openvino") is not None


def _openvino() -> Any:
    if not installed():
        raise ModelError("OpenVINO is not installed", "Try: pip install 'embedlake[openvino]'")
    # On import it reports to its makers through this package, unless the package cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@contextmanager
def _without_tracer_warnings() -> Iterator[None]:
    """The tracer warns of every Python value that becomes a constant; the tests say that these may."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
