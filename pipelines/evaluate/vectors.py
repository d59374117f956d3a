"""Texts to full vectors, cut where the model's published figures cut, with progress by tokens."""
# ruff: noqa: N806  (array names carry their shape: x_ND)

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.model import Encoder
from pipelines.progress import Progress

_TEXTS = 1024  # tokenised at once, whole before they are cut
_ROWS = 64  # encoded at once: some seconds on two cores


def load_encoder(conf: ModelConf, precision: str, progress: Progress) -> Encoder:
    """The model, run by torch, whose float32 is the same on every processor but for rounding.

    Args:
        conf: The model.
        precision: `float32`, `bfloat16`, or `auto` for the model's own on this machine.
        progress: Told that it is loaded.

    Raises:
        ModelError: The files cannot be had, or are not those that the configuration names.
    """
    with progress.step("loading the model", None, "models"):
        return Encoder.load(conf, precision=None if precision == "auto" else precision)


def encode_texts(
    encoder: Encoder, texts: Sequence[str], prefix: str, progress: Progress, label: str
) -> npt.NDArray[np.float32]:
    """One vector a text, as the pipeline's encoder gives it.

    Args:
        encoder: The model.
        texts: The texts, without prefix; an empty one is its prefix and special tokens alone.
        prefix: Of all of them, without `: `.
        progress: Told of the tokens that are done.
        label: What the step is called.

    Returns:
        x_ND float32 with rows of length 1, in the order of the texts.

    Raises:
        ModelError: A text holds a lone surrogate.
    """
    most = encoder.conf.evaluation_tokens or encoder.conf.max_tokens
    rows = [
        row
        for start in range(0, len(texts), _TEXTS)
        for row in encoder.tokenizer.model_inputs(texts[start : start + _TEXTS], prefix, most)
    ]
    lengths_N = np.array([len(row) for row in rows], dtype=np.int64)
    longest_first_N = np.argsort(-lengths_N, kind="stable")
    x_ND = np.empty((len(rows), encoder.dimension), dtype=np.float32)
    done = 0
    with progress.step(label, int(lengths_N.sum()), "tokens") as step:
        for start in range(0, len(rows), _ROWS):
            part = longest_first_N[start : start + _ROWS]  # rows of a length together: little is padded
            x_ND[part] = encoder.encode_ids([rows[row] for row in part])
            done += int(lengths_N[part].sum())
            step.done(done)
    return x_ND
