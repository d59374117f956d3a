"""The forward pass: rows of token ids in, normalised vectors out."""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_BLD)

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.encoder.batches import pad, token_budget_batches
from pipelines.encoder.conf import ModelConf, model_folder
from pipelines.encoder.fingerprint import ModelIdentity, checked_precision, describe_model, resolve_precision
from pipelines.encoder.loading import load_transformer
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError

Row = npt.NDArray[np.integer]


class Encoder:
    """A model in memory. Not to be shared between threads.

    Attributes:
        conf: The model's configuration.
        tokenizer: The tokenizer that its rows must come from.
        identity: Its key and what the key stands for.
    """

    def __init__(
        self, conf: ModelConf, tokenizer: Tokenizer, identity: ModelIdentity, model: Any, device: str
    ) -> None:
        self.conf = conf
        self.tokenizer = tokenizer
        self.identity = identity
        self._model = model
        self._device = torch.device(device)
        self._pad_id = int(getattr(model.config, "pad_token_id", None) or 0)  # masked: any valid id will do

    @classmethod
    def load(
        cls,
        conf: ModelConf,
        *,
        device: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
    ) -> Self:
        """Loads a model from local files and checks that it is the one the configuration describes.

        Args:
            conf: The model.
            device: As torch names them; None takes CUDA where there is one, else the CPU.
            precision: `float32` or `bfloat16`, as the driver has resolved it; None resolves it for `device`.
            threads: CPU threads of torch in this whole process; None leaves them.

        Raises:
            ModelError: The files cannot be had, are not those that the configuration names, or do not make
                the model that it describes.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        resolved = checked_precision(precision) if precision else resolve_precision(conf, device)
        identity = describe_model(conf, resolved)
        folder = model_folder(conf)
        tokenizer = Tokenizer.from_folder(folder)
        model = load_transformer(conf, folder, resolved).to(device)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ModelError(
                f"the tokenizer in {folder} has {tokenizer.vocab_size} ids, the model "
                f"{model.config.vocab_size}",
                "tokenizer.json and model.safetensors do not belong together",
            )
        return cls(conf, tokenizer, identity, model, device)

    @property
    def key(self) -> str:
        """Value of the `model` partition for its vectors."""
        return self.identity.key

    @property
    def precision(self) -> str:
        """`float32` or `bfloat16`: of the forward pass; pooling and everything after is float32."""
        return self.identity.precision

    @property
    def dimension(self) -> int:
        """Full dimension of its vectors."""
        return self.conf.dimension

    def encode_texts(
        self, texts: Sequence[str], role: str = "document", batch_tokens: int = 4096
    ) -> npt.NDArray[np.float32]:
        """Vectors of texts, each prefixed as its role asks.

        Args:
            texts: The texts, without prefix.
            role: A key of the configuration's prefixes: `query` or `document`.
            batch_tokens: Most tokens of a forward pass, padding counted.

        Returns:
            x_ND float32 with rows of length 1, in the order of the texts.

        Raises:
            ModelError: The role is unknown, or a text is too long.
        """
        return self.encode_ids(self.tokenizer.model_inputs(texts, self.conf.prefix(role)), batch_tokens)

    def encode_ids(self, rows: Sequence[Row], batch_tokens: int = 4096) -> npt.NDArray[np.float32]:
        """Vectors of rows of token ids; a row's does not depend on the rows beside it or on their order.

        Args:
            rows: Whole model inputs, special tokens and prefix included: see `Tokenizer.model_input`.
            batch_tokens: Most tokens of a forward pass, padding counted; a longer row is passed alone.

        Returns:
            x_ND float32 with rows of length 1, in the order of `rows`; (0, D) for no rows.

        Raises:
            ModelError: A row is empty or longer than max_tokens, or holds an id unknown to the tokenizer.
        """
        lengths_N = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        self._check(rows, lengths_N)
        rope = self.conf.rope
        batches = token_budget_batches(
            lengths_N, batch_tokens, same_length_above=rope.max_position_embeddings if rope else None
        )
        # Gathered on the device: fetching each batch would make a GPU wait for the host.
        x_ND = torch.empty((len(rows), self.dimension), dtype=torch.float32, device=self._device)
        with torch.inference_mode():
            for batch in batches:
                ids_BL, mask_BL = pad([rows[i] for i in batch], self._pad_id)
                x_ND[torch.from_numpy(batch).to(self._device)] = self._forward(ids_BL, mask_BL)
        vectors: npt.NDArray[np.float32] = x_ND.cpu().numpy()
        return vectors

    def _forward(self, ids_BL: npt.NDArray[np.int64], mask_BL: npt.NDArray[np.bool_]) -> Tensor:
        """Vectors of one padded batch, x_BD float32."""
        ids = torch.from_numpy(ids_BL).to(self._device)
        if mask_BL.all():  # unmasked attention is faster, and rows of one length are common
            hidden_BLD = self._model(input_ids=ids).last_hidden_state
            pooled_BD = hidden_BLD.mean(dim=1, dtype=torch.float32)
        else:
            mask = torch.from_numpy(mask_BL).to(self._device)
            hidden_BLD = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            pooled_BD = mean_pool(hidden_BLD, mask)
        return finish(pooled_BD, self.conf.layer_norm)

    def _check(self, rows: Sequence[Row], lengths_N: npt.NDArray[np.int64]) -> None:
        """Refuses rows that would give wrong vectors, or stop the process inside an index kernel."""
        if not len(rows):
            return
        if lengths_N.min() == 0:
            raise ModelError(
                f"row {int(lengths_N.argmin())} has no tokens",
                "Rows are whole model inputs, special tokens included: see Tokenizer.model_input",
            )
        if lengths_N.max() > self.conf.max_tokens:
            raise ModelError(
                f"row {int(lengths_N.argmax())} has {lengths_N.max()} tokens, more than the max_tokens of "
                f"'{self.conf.name}', {self.conf.max_tokens}",
                "Cut smaller chunks, leaving room for Tokenizer.overhead(prefix)",
            )
        ids_T = np.concatenate(rows)
        wrong_T = (ids_T < 0) | (ids_T >= self.tokenizer.vocab_size)
        if wrong_T.any():
            at = int(wrong_T.argmax())
            row = int(np.searchsorted(np.cumsum(lengths_N), at, side="right"))
            raise ModelError(
                f"row {row} holds token id {ids_T[at]}; the tokenizer of '{self.conf.name}' has ids below "
                f"{self.tokenizer.vocab_size}",
                "The rows were made by another tokenizer: run curate with this model",
            )


def mean_pool(hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean of each row's own token vectors, x_BD float32, summed in float32 whatever the input's dtype.

    Args:
        hidden_BLD: Token vectors, float32 or bfloat16.
        mask_BL: bool, True where a token is the row's own; at least one a row.
    """
    sum_BD = hidden_BLD.float().masked_fill(~mask_BL[..., None], 0.0).sum(dim=1)
    return sum_BD / mask_BL.sum(dim=1, keepdim=True)


def finish(pooled_BD: Tensor, layer_norm: bool) -> Tensor:
    """What follows the pooling: LayerNorm over all of D without affine, if asked for, then the L2 norm.

    Args:
        pooled_BD: float32.
        layer_norm: As in the configuration; eps is torch's 1e-5, as on nomic-embed-text-v1.5's model card.
    """
    if layer_norm:
        pooled_BD = functional.layer_norm(pooled_BD, pooled_BD.shape[-1:])
    return functional.normalize(pooled_BD, dim=-1)
