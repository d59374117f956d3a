"""What a publication is asked for, and what it did."""

from dataclasses import dataclass

from pipelines.encoder.conf import ModelConf


@dataclass(frozen=True)
class Report:
    """What a publication did.

    Attributes:
        table: The serving table.
        run_id: Of the publication whose state the table is in.
        kind: `full`, `incremental`, or `nothing`, where nothing was new.
        rows: Rows in the table.
        new: Rows that it had not.
        changed: Rows whose chosen columns are others now.
        gone: Rows whose chunk is gone.
        without_chunk: Embeddings left out, since their chunk is gone already.
        files: Data files written.
        release: The tag that was asked for.
        rotation: Of a rotated table, the share of the vectors' energy that its dimension holds, and what a
            rotation fitted to all vectors published with this one would hold.
        refitted: Whether the rotation was fitted by this run.
        seconds: Of the run.
    """

    table: str
    run_id: str
    kind: str
    rows: int
    new: int = 0
    changed: int = 0
    gone: int = 0
    without_chunk: int = 0
    files: int = 0
    release: str | None = None
    rotation: tuple[float, float] | None = None
    refitted: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """What a publication is asked for.

    Attributes:
        model: A model's key or name; None takes the lake's only one.
        conf: The model's settings, where they are at hand: says which dimensions it was trained for.
        release: A tag for what is published.
        rebuild: Publish every row again, and let go what is there.
        refit: Fit the rotation again, which publishes every row again.
    """

    model: str | None = None
    conf: ModelConf | None = None
    release: str | None = None
    rebuild: bool = False
    refit: bool = False
