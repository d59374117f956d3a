"""Domain errors: each says what is wrong in one line and how to mend it in another."""


class EmbedlakeError(Exception):
    """A fault that a user can act on.

    Attributes:
        message: What is wrong, in one line.
        hint: How to mend it, in one line; empty where the message says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message, hint)  # both, so that the error survives pickling between processes

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class ConfigError(EmbedlakeError):
    """A setting is unknown, malformed or contradicts another."""


class InputError(EmbedlakeError):
    """The corpus cannot be read as asked: a missing path, an empty folder, an absent column."""


class EmptyInputError(InputError):
    """An input is there, and holds nothing to read."""


class CatalogError(EmbedlakeError):
    """The Iceberg catalogue does not answer, refuses, or lacks a table."""


class StorageError(EmbedlakeError):
    """A folder or object store cannot be read or written."""


class CommitError(EmbedlakeError):
    """Data files were refused by a table, or a commit kept losing its race."""


class ModelError(EmbedlakeError):
    """A model or tokenizer cannot be loaded, is not the one named, or does not match a table."""


class TrainingError(EmbedlakeError):
    """A training run cannot go on: its loss is no number, or its checkpoints are of something else."""


class EnvironmentFault(EmbedlakeError):  # noqa: N818 - EnvironmentError is a builtin's name
    """The machine lacks something: Java, jars, memory, disk, an accelerator."""
