"""The forward pass: rows of token ids in, normalised vectors out."""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_BLD)

from collections.abc import Sequence
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.encoder.backends.base import Backend
from pipelines.encoder.backends.choose import BackendName, choose_backend
from pipelines.encoder.batches import token_budget_batches, usual_batch_tokens
from pipelines.encoder.conf import ModelConf, model_folder
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.feed import on_device
from pipelines.encoder.fingerprint import ModelIdentity, checked_precision, describe_model, resolve_precision
from pipelines.encoder.loading import load_head, load_transformer
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError

Row = npt.NDArray[np.integer]
Batches = list[npt.NDArray[np.int64]]

# How an allocation that fails on the host is told: by torch's allocator, and by C++ underneath it.
_NO_MEMORY = ("can't allocate memory", "bad_alloc")


class Encoder:
    """A model in memory. Not to be shared between threads.

    Attributes:
        conf: The model's configuration.
        tokenizer: The tokenizer that its rows must come from.
        identity: Its key and what the key stands for.
        described: Backend and precision, and why that backend, in one line to be printed.
        most_batch_tokens: A bound on batch_tokens that memory has set so far; None until it has run out once.
    """

    def __init__(
        self,
        conf: ModelConf,
        tokenizer: Tokenizer,
        identity: ModelIdentity,
        backend: Backend,
        device: str,
        described: str,
        head_DH: Tensor | None = None,
    ) -> None:
        self.conf = conf
        self.tokenizer = tokenizer
        self.identity = identity
        self.described = described
        self.most_batch_tokens: int | None = None
        self._backend = backend
        self._device = torch.device(device)
        self._head_DH = None if head_DH is None else head_DH.to(self._device)

    @classmethod
    def load(
        cls,
        conf: ModelConf,
        *,
        device: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        backend: BackendName = "torch",
    ) -> Self:
        """Loads a model from local files and checks that it is the one the configuration describes.

        Args:
            conf: The model.
            device: As torch names them; None takes CUDA where there is one, else the CPU.
            precision: `float32` or `bfloat16`, as the driver has resolved it; None resolves it for `device`.
            threads: CPU threads of torch in this whole process, and of its other backends; None leaves them.
            backend: See `choose_backend`. `auto` measures for a second or two, which many rows repay. The
                vectors' key is the same for all.

        Raises:
            ModelError: The files cannot be had, are not those that the configuration names, or do not make
                the model that it describes; or the backend cannot run it here.
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
        head_DH = load_head(conf, folder, model.config.hidden_size)
        chosen, described = choose_backend(backend, conf, model, resolved)
        return cls(conf, tokenizer, identity, chosen, device, described, head_DH)

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
        self, texts: Sequence[str], role: str = "document", batch_tokens: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Vectors of texts, each prefixed as its role asks.

        Args:
            texts: The texts, without prefix.
            role: A key of the configuration's prefixes: `query` or `document`.
            batch_tokens: See `encode`.

        Returns:
            x_ND float32 with rows of length 1, in the order of the texts.

        Raises:
            ModelError: The role is unknown, or a text is too long.
        """
        return self.encode_ids(self.tokenizer.model_inputs(texts, self.conf.prefix(role)), batch_tokens)

    def encode_ids(
        self, rows: Sequence[Row] | Ragged, batch_tokens: int | None = None
    ) -> npt.NDArray[np.float32]:
        """The vectors of `encode` alone, x_ND float32 with rows of length 1."""
        return self.encode(rows, batch_tokens).vectors_ND

    def encode(self, rows: Sequence[Row] | Ragged, batch_tokens: int | None = None) -> Encoded:
        """Vectors of rows of token ids; a row's does not depend on the rows beside it or on their order.

        Where memory runs out, the batch is halved, and later batches, of later calls too, are no larger.

        Args:
            rows: Whole model inputs, special tokens and prefix included: see `Tokenizer.model_input`.
            batch_tokens: Most tokens of a forward pass, padding counted; a longer row is passed alone. None
                for `usual_batch_tokens`.

        Returns:
            Vectors in the order of `rows`, (0, D) for no rows.

        Raises:
            ModelError: A row is empty or longer than max_tokens, or holds an id unknown to the tokenizer.
        """
        joined = Ragged.of(rows)
        lengths_N = joined.lengths_N
        self._check(joined, lengths_N)
        # Gathered on the device: fetching each batch would make a GPU wait for the host.
        x_ND = torch.empty((len(joined), self.dimension), dtype=torch.float32, device=self._device)
        padded_tokens = 0
        most = batch_tokens or usual_batch_tokens(self._device.type)
        left_N = np.arange(len(joined))
        with torch.inference_mode():
            while len(left_N):
                budget = min(most, self.most_batch_tokens or most)
                batches = [left_N[batch] for batch in self._batches(lengths_N[left_N], budget)]
                done = self._encode_batches(joined, batches, x_ND)
                padded_tokens += sum(self._computed(lengths_N[batch]) for batch in batches[:done])
                left_N = np.concatenate([*batches[done:], left_N[:0]])
        return Encoded(x_ND.cpu().numpy(), len(joined.values_T), padded_tokens)

    def _batches(self, lengths_N: npt.NDArray[np.int64], budget: int) -> Batches:
        rope = self.conf.rope
        above = rope.max_position_embeddings if rope else None
        return token_budget_batches(lengths_N, budget, same_length_above=above)

    def _encode_batches(self, rows: Ragged, batches: Batches, x_ND: Tensor) -> int:
        """Fills `x_ND` batch by batch, and says how many it did before memory ran out, if it did.

        Raises:
            MemoryError, RuntimeError: There is not enough memory for a single row.
        """
        makers = (partial(self._backend.collate, rows.take(batch)) for batch in batches)
        ready = on_device(makers, self._device)
        for done, batch in enumerate(batches):
            try:
                pooled_BH = self._backend.pool(next(ready))
                x_BD = finish(pooled_BH, self._head_DH, self.conf.layer_norm)
                x_ND[torch.from_numpy(batch).to(self._device)] = x_BD
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or len(batch) == 1:
                    raise
                lengths_B = rows.lengths_N[batch]
                self.most_batch_tokens = max(1, self._computed(lengths_B) // 2)
                return done
        return len(batches)

    def _computed(self, lengths_B: npt.NDArray[np.int64]) -> int:
        """Tokens of a batch, padding counted where the backend pads."""
        return int(lengths_B.max()) * len(lengths_B) if self._backend.pads else int(lengths_B.sum())

    def _check(self, rows: Ragged, lengths_N: npt.NDArray[np.int64]) -> None:
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
        ids_T = rows.values_T
        wrong_T = (ids_T < 0) | (ids_T >= self.tokenizer.vocab_size)
        if wrong_T.any():
            at = int(wrong_T.argmax())
            row = int(np.searchsorted(rows.offsets_M[1:], at, side="right"))
            raise ModelError(
                f"row {row} holds token id {ids_T[at]}; the tokenizer of '{self.conf.name}' has ids below "
                f"{self.tokenizer.vocab_size}",
                "The rows were made by another tokenizer: run curate with this model",
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def finish(pooled_BH: Tensor, head_DH: Tensor | None, layer_norm: bool) -> Tensor:
    """What follows the pooling: the head, LayerNorm over all of D without affine, as asked for, the L2 norm.

    Args:
        pooled_BH: float32.
        head_DH: float32; None where there is none.
        layer_norm: As in the configuration; eps is torch's 1e-5, as on nomic-embed-text-v1.5's model card.
    """
    x_BD = pooled_BH if head_DH is None else pooled_BH @ head_DH.T
    if layer_norm:
        x_BD = functional.layer_norm(x_BD, x_BD.shape[-1:])
    return functional.normalize(x_BD, dim=-1)
