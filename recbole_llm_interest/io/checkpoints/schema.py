"""Schemas of checkpoints and resume states. A file that lacks a part, or has one of another type, is refused."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, FiniteFloat, StringConstraints, TypeAdapter, with_config
from torch import Tensor
from typing_extensions import TypedDict

_STRICT = with_config(ConfigDict(strict=True, arbitrary_types_allowed=True, extra="ignore"))


def _check_name(name: str) -> str:
    if name != PurePath(name).name or "\0" in name:
        raise ValueError("it is a path, not a name")
    return name


#: name of a model, a data set or a file in the same folder
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_check_name)]


@_STRICT
class RecordedConfig(TypedDict):
    """RecBole's configuration of the training, without settings of the machine.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        item_digest: hash of the items in RecBole's order; None if it is unknown.
        settings: all settings in effect, including defaults.
        given: settings from files, Python or the command line.
    """

    model: Name
    dataset: Name
    item_digest: str | None
    settings: dict[str, Any]
    given: dict[str, Any]


@_STRICT
class Checkpoint(TypedDict):
    """A model after an epoch.

    Attributes:
        config: of the training.
        epoch: number of the last epoch.
        cur_step: number of validations since the best one.
        best_valid_score: best validation score so far.
        state_dict: the model's weights.
        other_parameter: what RecBole's models save in addition to weights.
        optimizer: state of the optimizer.
        data: hashes of the training's data, by file and content feature.
        items: ids of the items in RecBole's order, as lines in UTF-8, ``[bytes]``; of ``LLMInterest`` alone.
        trained_until: the time of the newest training event; None without times.
    """

    config: RecordedConfig
    epoch: NotRequired[int]
    cur_step: NotRequired[int]
    best_valid_score: NotRequired[float]
    state_dict: dict[str, Tensor]
    other_parameter: NotRequired[dict[str, Any] | None]
    optimizer: NotRequired[dict[str, Any]]
    data: NotRequired[dict[str, str]]
    items: NotRequired[Tensor]
    trained_until: NotRequired[FiniteFloat | None]


@_STRICT
class RunIdentity(TypedDict):
    """Values that identify a run.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        seed: of the run.
        settings: settings from files, Python or the command line.
        effective_settings: the plug-in's settings, including defaults.
        data: hashes of the data, by file and content feature.
        processes: number of processes that train together.
    """

    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    effective_settings: dict[str, Any]
    data: dict[str, str]
    processes: int


@_STRICT
class RandomStates(TypedDict):
    """States of the random number generators of one process.

    Attributes:
        torch: of torch, on the CPU.
        cuda: of its GPU; None on a CPU.
        numpy: of numpy.
        python: of Python's ``random``.
        loaders: of the data loaders' generators.
    """

    torch: Tensor
    cuda: Tensor | None
    numpy: tuple[str, list[int], int, int, float]
    python: tuple[int, tuple[int, ...], float | None]
    loaders: list[Tensor]


@_STRICT
class ResumeState(Checkpoint):
    """The complete state of a training after an epoch.

    Attributes:
        run: values that identify the run.
        is_trained: whether that was the last epoch.
        checkpoint: name of the checkpoint of the best epoch.
        has_checkpoint: whether that file exists.
        optimizers: states of the optimizers, by the trainer's attribute.
        counters: plain numbers of the modules, such as a number of updates, by module and attribute.
        best_valid_result: metrics of the best validation.
        train_loss_dict: losses by epoch.
        progress: values of past epochs for the progress bar and the result.
        random_states: by process.
    """

    run: RunIdentity
    is_trained: bool
    checkpoint: Name
    has_checkpoint: bool
    optimizers: dict[str, dict[str, Any]]
    counters: dict[str, dict[str, bool | int | float]]
    best_valid_result: dict[str, float] | None
    train_loss_dict: dict[int, float]
    progress: dict[str, Any]
    random_states: list[RandomStates]


CHECKPOINT: TypeAdapter[Checkpoint] = TypeAdapter(Checkpoint)
RESUME_STATE: TypeAdapter[ResumeState] = TypeAdapter(ResumeState)
