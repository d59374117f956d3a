"""Settings of the embed stage and of the Ray that runs it."""

from typing import Literal

from pydantic import Field

from pipelines.config import Config


class EmbedConfig(Config):
    """How chunks become embeddings. None of it changes a vector, except `device` where precision is `auto`.

    Attributes:
        device: What the encoders run on; `auto` is `cuda` where Ray has GPUs, else `cpu`.
        actors: Most encoders at work, each with a copy of the model, and how many a cluster that can grow is
            asked for; None is one per GPU, or without GPUs one per core, up to eight on a machine, on every
            node that there is or that comes.
        gpus_per_actor: Share of a GPU that an encoder takes; below 1, several share one.
        threads: CPU threads of an encoder's forward pass; None is the machine's cores shared by its actors.
        backend: What runs the model: `torch`, `openvino` (on CPUs; the extra of that name), `compiled`
            (torch.compile, on GPUs) or `auto`, which on CPUs measures the first two for a second or two at
            start where there is enough to do.
        batch_tokens: Most tokens of one forward pass, padding included; None for what suits the device.
        unit_tokens: About how many tokens are read, encoded and written together; None is a million on GPUs
            and 65,536 on CPUs, less where each encoder would get fewer than four units. Units in flight are
            what a kill loses.
        unit_rows: Most rows of a unit: with 768 dimensions 16,384 are 48 MiB.
        commit_seconds: A finished unit waits at most so long for its commit.
        commit_units: So many finished units are committed at once; None leaves it to `commit_seconds`.
        units_ahead: Units that wait at each encoder while it works on one and another is written. More hide
            slow storage, and cost object store memory.
        cache: Whether a text that the model has embedded already, in any document, is looked for and its
            vector copied. Costs one column of the pending chunks and one of the model's embeddings.
        label_selector: Labels of the Ray nodes that may run encoders, such as
            `{"ray.io/accelerator-type": "H100"}`; None is any node.
        node_wait_seconds: The run ends if for so long no node has what an encoder needs.
        metrics_port: Where Prometheus may ask for the run's metrics; None serves none.
        metrics_address: On which interface.
        patience_seconds: So long the object store and the catalogue may be unreachable before the run ends.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    actors: int | None = Field(default=None, ge=1)
    gpus_per_actor: float = Field(default=1.0, gt=0)
    threads: int | None = Field(default=None, ge=1)
    backend: Literal["auto", "torch", "openvino", "compiled"] = "auto"
    batch_tokens: int | None = Field(default=None, ge=1)
    unit_tokens: int | None = Field(default=None, ge=1)
    unit_rows: int = Field(default=16_384, ge=1)
    commit_seconds: float = Field(default=60.0, gt=0)
    commit_units: int | None = Field(default=None, ge=1)
    units_ahead: int = Field(default=1, ge=0)
    cache: bool = True
    label_selector: dict[str, str] | None = None
    node_wait_seconds: float = Field(default=45.0, gt=0)
    patience_seconds: float = Field(default=300.0, gt=0)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    metrics_address: str = "127.0.0.1"
