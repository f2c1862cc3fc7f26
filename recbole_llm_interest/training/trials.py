"""The trials of a hyperparameter search: how one is run, and the file that logs them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic does not accept the one of typing before Python 3.12

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.files import write_text
from recbole_llm_interest.io.opening import FileKind, is_there, read_json
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.experiment import validation_curve

#: end of the error message if the variant or its trials cannot be written
OTHER_OUTPUT_HINT = "give another place by --output"
_LOG = FileKind("file of trials", SettingsError, 100_000_000, "give another --output")


class Trial(TypedDict):
    """One trial of a search.

    Attributes:
        drawn: the settings of this trial.
        score: best validation score; None if training diverged.
        epochs: number of trained epochs.
        curve: pairs of the number of trained epochs and the validation score; absent in logs of earlier versions.
    """

    drawn: dict[str, Any]
    score: float | None
    epochs: int
    curve: NotRequired[list[list[float]]]


class TrialLog:
    """The trials of a search, in a JSON file that is rewritten after each trial.

    Args:
        path: the file. Trials that it holds are not run again.
        shared: settings of all trials and of the search.

    Attributes:
        trials: the trials so far.

    Raises:
        SettingsError: the file holds trials of another search, or something else.
    """

    def __init__(self, path: Path, shared: dict[str, Any]) -> None:
        self.path = path
        self.shared = shared
        self.trials: list[Trial] = []
        if is_there(path):
            self.trials = self._read()

    def find(self, drawn: dict[str, Any]) -> Trial | None:
        """Return the trial of these settings; None if the log lacks it."""
        return next((trial for trial in self.trials if trial["drawn"] == drawn), None)

    def add(self, trial: Trial, order: Sequence[dict[str, Any]] = ()) -> None:
        """Add a trial to the file.

        Args:
            trial: that has ended.
            order: the settings of all trials; the file has them in this order, whichever ended first.

        Raises:
            StorageError: the file cannot be written; the old one is unchanged.
        """
        self.trials.append(trial)
        self.trials.sort(key=lambda one: order.index(one["drawn"]) if one["drawn"] in order else len(order))
        text = json.dumps({"shared": self.shared, "trials": self.trials}, indent=1) + "\n"
        write_text(self.path, text, OTHER_OUTPUT_HINT)

    def best(self, bigger: bool) -> Trial | None:
        """Return the first trial with the best score; None without a score.

        Args:
            bigger: whether bigger scores are better.
        """
        scored = [(trial["score"], trial) for trial in self.trials if trial["score"] is not None]
        return (max if bigger else min)(scored, key=lambda pair: pair[0], default=(None, None))[1]

    def _read(self) -> list[Trial]:
        try:
            log = read_json(self.path, _LOG)
            trials = TypeAdapter(list[Trial]).validate_python(log["trials"])
            before = TypeAdapter(dict[str, Any]).validate_python(log["shared"])
        except (ValueError, TypeError, KeyError) as error:
            raise _LOG.refusal(self.path, "does not hold the trials of a search") from error
        for key in sorted({*before, *self.shared}):
            if before.get(key) != self.shared.get(key):
                raise SettingsError(
                    f"{self.path} holds trials of a search with other settings, {key}={before.get(key)!r}, now "
                    f"{self.shared.get(key)!r}: give another --output"
                )
        return trials


def trials_path(output: Path) -> Path:
    """Return the path of the trials' file beside that of the variant: ``.json`` in place of ``.yaml`` or ``.yml``.

    Example:
        >>> [trials_path(Path(name)).name for name in ("best.yaml", "lr0.1")]
        ['best.json', 'lr0.1.json']
    """
    return output.with_name((output.stem if output.suffix in (".yaml", ".yml") else output.name) + ".json")


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials, in this process or in a worker of a cluster.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        files: YAML files of all trials.
        shared: settings of all trials.
        search: name of the search, by which trackers group its trials.
        is_remote: whether the GPU is the one that Ray has chosen for this process, if any.
    """

    model: str
    dataset: str
    files: Sequence[str]
    shared: dict[str, Any]
    search: str
    is_remote: bool = False

    def __call__(self, task: tuple[int, dict[str, Any]]) -> Trial:
        """Run a trial.

        Args:
            task: the trial's number, from 1, and its drawn settings.

        Raises:
            LLMInterestError: the settings or the data cannot be used.
        """
        number, drawn = task
        gpu = {"gpu_id": os.environ.get("CUDA_VISIBLE_DEVICES", "")} if self.is_remote else {}
        config = configure(self.model, self.dataset, self.files, {**self.shared, **drawn, **gpu})
        config["show_progress"] = False  # the search has a progress bar
        result = validation_curve(config, f"{config['model']}, trial {number}", self.search)
        return {"drawn": drawn, "score": result.best, "epochs": result.epochs, "curve": result.scores}
