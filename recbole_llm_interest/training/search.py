"""Hyperparameter search by RecBole's ``HyperTuning``, on the validation split alone.

The result is a variant for a comparison: the best settings, with a note on the search. A JSON file logs the trials; an
interrupted search continues from it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import yaml
from pydantic import TypeAdapter
from recbole.config import Config
from tqdm import tqdm
from typing_extensions import TypedDict  # pydantic does not accept the one of typing before Python 3.12

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.config_files import SEARCH_SPACE, read_config_files
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import shared_data_set_lock, write_text
from recbole_llm_interest.io.manifest import record_run
from recbole_llm_interest.io.opening import FileKind, is_there, read_json, read_text
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.settings import check_keys
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.experiment import validation_curve
from recbole_llm_interest.training.run_metadata import explicit_settings, json_values
from recbole_llm_interest.training.tracking.session import check_trackers
from recbole_llm_interest.training.unused import warn_of_unused

#: end of the error message if the variant or its trials cannot be written
OTHER_OUTPUT_HINT = "give another place by --output"
#: explicit settings that are not written to the variant: they choose what is reported, not how a model is trained
_COMPARISON_SETTINGS = {"model", "dataset", "metrics", "topk"}
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

    def score(self, drawn: dict[str, Any], config: Config) -> float | None:
        """Return the score of a trial, which is run unless the log has it; None if training diverged."""
        for trial in self.trials:
            if trial["drawn"] == drawn:
                return trial["score"]
        name = f"{config['model']}, trial {len(self.trials) + 1}"
        result = validation_curve(config, name, self.path.stem)
        self.trials.append({"drawn": drawn, "score": result.best, "epochs": result.epochs, "curve": result.scores})
        text = json.dumps({"shared": self.shared, "trials": self.trials}, indent=1) + "\n"
        write_text(self.path, text, OTHER_OUTPUT_HINT)
        return result.best

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


def tune(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] = (),
    config_dict: dict[str, Any] | None = None,
    *,
    space: Path,
    output: Path,
    algorithm: str = "random",
    trials: int = 10,
) -> Variant:
    """Search, and write the best settings to ``output`` as a variant of a comparison.

    A trial whose training diverges has failed; the search continues.

    Args:
        model: name of the model; None for the one that settings or files name.
        dataset: name of the data set; None likewise.
        config_file_list: YAML files, as for RecBole's ``run``.
        config_dict: settings of all trials; the drawn settings of a trial take precedence.
        space: file of the search space, in the format of RecBole's ``HyperTuning``.
        output: file of the variant. The trials are in a JSON file beside it.
        algorithm: ``random``, ``bayes`` or ``exhaustive``.
        trials: number of trials; ``exhaustive`` tries all settings.

    Raises:
        LLMInterestError: the space, the settings or the data cannot be used, or all trials diverged.
    """
    shared = dict(config_dict or {})
    config = configure(model, dataset, config_file_list, shared)
    model, dataset = config["model"], config["dataset"]
    warn_of_unused([config])
    lines = _space_lines(space)
    key = {"model": model, "dataset": dataset, "space": lines, "algorithm": algorithm, "seed": config["seed"]}
    log = TrialLog(trials_path(output), explicit_settings(config) | key)
    search = _Search(model, dataset, config_file_list, shared, config, log)
    with shared_data_set_lock(Path(config["data_path"])):
        record_run(config, "tuning", [output, log.path])
        search.run(space, algorithm, trials)
        return _written(output, search.best_variant(f"{algorithm} search over {', '.join(lines)}"))


def _written(output: Path, variant: Variant) -> Variant:
    row = {variant.model: {"model": variant.model, **variant.settings, "note": variant.note}}
    write_text(output, yaml.safe_dump(row, sort_keys=False, width=120), OTHER_OUTPUT_HINT)
    return variant


@dataclass(frozen=True)
class _Search:
    """A search over the settings of one model.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        files: YAML files of all trials.
        shared: settings of all trials.
        config: the configuration without drawn settings.
        log: the trials.
    """

    model: str
    dataset: str
    files: Sequence[str]
    shared: dict[str, Any]
    config: Config
    log: TrialLog

    def run(self, space: Path, algorithm: str, trials: int) -> None:
        """Run the trials that the log lacks."""
        from recbole.trainer import HyperTuning

        config = self.config
        check_trackers([config])
        bar = tqdm(
            desc=f"Searching {one_line(self.model)}", unit="trial", ncols=100, disable=not config["show_progress"]
        )

        def objective(drawn: dict[str, Any], _: object = None) -> dict[str, Any]:
            return self._run_trial(drawn, bar)

        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), bar:
            warnings.simplefilter("ignore")  # hyperopt warns about its own packaging
            try:
                search = HyperTuning(objective, params_file=str(space), algo=algorithm, max_evals=trials)
            except (ValueError, SyntaxError) as error:
                raise SettingsError(f"search space {space} is not in RecBole's form: {error}") from error
            if not search.space:
                raise SettingsError(f"search space {space} has no line such as 'learning_rate choice [0.001,0.003]'")
            check_keys(search.space)
            search.early_stop_fn = None  # it would end the search early, and fails if the first trial diverged
            bar.reset(search.max_evals)
            os.environ["HYPEROPT_FMIN_SEED"] = str(config["seed"])  # RecBole does not pass a seed to hyperopt
            search.run()

    def best_variant(self, method: str) -> Variant:
        """Return the variant of the best trial.

        Args:
            method: description of the search, for the variant's note.

        Raises:
            SettingsError: all trials diverged.
        """
        config, trials = self.config, self.log.trials
        best = self.log.best(config["valid_metric_bigger"])
        if best is None:
            raise SettingsError(
                f"{self.model}: training diverged (its loss became NaN) in all {len(trials)} trials of "
                f"{self.log.path}: give a space with lower learning rates by --space, and another --output"
            )
        drawn = best["drawn"]
        note = (
            f"{', '.join(f'{key}={value}' for key, value in drawn.items())}: the best of {len(trials)} trials by "
            f"validation {config['valid_metric']}, {best['score']:.4f}; at most "
            f"{drawn.get('epochs', config['epochs'])} epochs each{self._unfinished_trials()}; {method}"
        )
        given = {*read_config_files(self.files), *self.shared} - _COMPARISON_SETTINGS
        settings = {key: value for key, value in explicit_settings(config).items() if key in given} | drawn
        return Variant(self.model, self.model, settings, note)

    def _unfinished_trials(self) -> str:
        """Say how many trials diverged, and how many the number of epochs ended before early stopping did."""
        diverged = sum(trial["score"] is None for trial in self.log.trials)
        cut_off = sum(
            trial["score"] is not None and trial["epochs"] >= trial["drawn"].get("epochs", self.config["epochs"])
            for trial in self.log.trials
        )
        return "".join(
            f", {count} of them {what}" for count, what in ((diverged, "diverged"), (cut_off, "not converged")) if count
        )

    def _run_trial(self, drawn: dict[str, Any], bar: tqdm[Any]) -> dict[str, Any]:
        """Return the score of a trial in the form of RecBole's ``objective_function``."""
        drawn = json_values(drawn)  # as in the log: hyperopt makes tuples of lists
        config = configure(self.model, self.dataset, self.files, {**self.shared, **drawn})
        config["show_progress"] = False  # the search has a progress bar
        score = self.log.score(drawn, config)
        bigger = self.config["valid_metric_bigger"]
        best = self.log.best(bigger)
        bar.update()
        shown, shown_best = _format(score), _format(best["score"] if best else None)
        bar.set_postfix_str(f"{self.config['valid_metric']} {shown}, best {shown_best}")
        worst = -math.inf if bigger else math.inf
        return {
            "model": self.model,
            "best_valid_score": worst if score is None else score,
            "valid_score_bigger": bigger,
            "best_valid_result": {},
            "test_result": {},
        }


def _space_lines(space: Path) -> list[str]:
    """Return the lines of a search space with single spaces, without empty lines."""
    return [" ".join(line.split()) for line in read_text(space, SEARCH_SPACE).splitlines() if line.strip()]


def _format(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
