"""A run's state as bytes, and back: weights, moments, where it stands. Safetensors, no pickle.

Nothing random is kept: every draw follows from the recipe's seed and the step, so the step is enough.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipelines.errors import ModelError


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        step: Steps done; the next batch has this number.
        recipe: Fingerprint of the recipe.
        data: Fingerprint of the batches.
    """

    step: int
    recipe: str
    data: str


def packed(model: nn.Module, optimiser: torch.optim.Optimizer, position: Position) -> bytes:
    """A checkpoint."""
    tensors: dict[str, Tensor] = {}
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach().cpu().contiguous()
    for weights, state in optimiser.state.items():
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{moment}.{names[weights]}"] = state[moment].detach().cpu().contiguous()
    return save(tensors, {"position": json.dumps(asdict(position))})


def unpacked(data: bytes, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Puts a checkpoint's weights and moments in place.

    Raises:
        ModelError: It is damaged, or of another model.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError(f"a checkpoint is damaged: {error}", "Delete it: the one before is used") from error
    own = dict(model.named_parameters())
    if {name.removeprefix("weight.") for name in tensors if name.startswith("weight.")} != own.keys():
        raise ModelError("a checkpoint has the weights of another model", "Train under another name")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[f"weight.{name}"])
    for name, parameter in own.items():
        if f"step.{name}" in tensors:
            state: dict[str, Any] = {"step": tensors[f"step.{name}"]}
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment] = tensors[f"{moment}.{name}"].to(parameter.device)
            optimiser.state[parameter] = state


def position_of(data: bytes) -> Position:
    """Where the run of a checkpoint stood."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    return Position(**json.loads(metadata["position"]))
