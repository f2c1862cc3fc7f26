"""The package's exceptions: each message says what is wrong, where, and what to do about it."""


class LLMInterestError(Exception):
    """Root of every error that a user can cause and mend; the command line prints it as one line and exits 2."""


class SettingsError(LLMInterestError):
    """A setting, or a word of the command line, is unknown, misspelt or out of range."""


class DataError(LLMInterestError):
    """A data set, or one of its content files, is missing or is not in the form that is read."""


class ContentError(LLMInterestError):
    """One piece of content cannot be used: it is listed with this reason, its modality is masked, the run goes on.

    Attributes:
        is_lasting: the content itself is at fault, so that trying again is of no use.
    """

    def __init__(self, reason: str, *, is_lasting: bool = True) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting


class EncoderError(LLMInterestError):
    """An encoder cannot be used: its weights are missing, damaged, need a package that is not there, or more memory."""


class StorageError(LLMInterestError):
    """A file cannot be written: the disk is full or the folder is read-only. What was there before is still there."""


class CheckpointError(LLMInterestError):
    """A checkpoint is missing, damaged, or belongs to another model or data set."""


class ProcessError(LLMInterestError):
    """One of several processes that train together was killed."""


class RequestError(LLMInterestError):
    """The recommender cannot do what it is asked: an unknown item, an event out of order, too few candidates."""


class StateError(LLMInterestError):
    """A saved state is missing, damaged, or of another model."""


class ExportError(LLMInterestError):
    """A model cannot be exported: a package is missing, or a program does not do what the model does."""
