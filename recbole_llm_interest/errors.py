"""The package's exceptions. A message is one line: what is wrong, where, and what to do about it."""


class LLMInterestError(Exception):
    """Base class of errors that a user can correct. The command line prints the message and exits with code 2."""


class SettingsError(LLMInterestError):
    """A setting or an argument of the command line is unknown, or its value is invalid."""


class DataError(LLMInterestError):
    """A data set or one of its content files is missing or has an invalid format."""


class ContentError(LLMInterestError):
    """The content of an item or user cannot be used. The run reports it, masks the modality and continues.

    Args:
        reason: what is wrong, for the report.
        is_lasting: whether the content itself is invalid, so that another attempt would fail, too.
    """

    def __init__(self, reason: str, *, is_lasting: bool = True) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting


class EncoderError(LLMInterestError):
    """An encoder cannot be used: weights or a package are missing, weights are damaged, or memory is insufficient."""


class StorageError(LLMInterestError):
    """A file cannot be written: the disk is full or the folder is read-only. An existing file is unchanged."""


class TrainingError(LLMInterestError):
    """Training cannot continue, for example because memory is exhausted. Earlier checkpoints are kept."""


class DivergedError(TrainingError):
    """The training loss is NaN."""


class CheckpointError(LLMInterestError):
    """A checkpoint is missing or damaged, or belongs to another model or data set."""


class ProcessError(LLMInterestError):
    """A process of distributed training was killed, or workers of a cluster were, again and again."""


class RequestError(LLMInterestError):
    """A call of the recommender is invalid: an unknown item, an event out of order, or too few candidates."""


class StateError(LLMInterestError):
    """A saved user state is missing or damaged, or belongs to another model."""


class ExportError(LLMInterestError):
    """A model cannot be exported: a package is missing, or a program's output differs from the model's."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM. It is handled like an interrupt."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was exhausted.

    Torch has an exception class for GPU memory only; other cases are recognised by the message.
    """
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
