"""Hyperparameter search by RecBole's ``HyperTuning``, on the validation split alone.

The result is a variant for a comparison: the best settings, with a note on the search. A JSON file logs the trials; an
interrupted search continues from it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config
from tqdm import tqdm

from recbole_llm_interest.cluster import Executor, check_cluster, open_executor
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.config_files import SEARCH_SPACE, read_config_files
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import shared_data_set_lock, write_text
from recbole_llm_interest.io.manifest import record_run
from recbole_llm_interest.io.opening import read_text
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.settings import check_keys
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.run_metadata import explicit_settings, json_values
from recbole_llm_interest.training.tracking.session import check_trackers
from recbole_llm_interest.training.trials import OTHER_OUTPUT_HINT, TrialLog, TrialRunner, trials_path
from recbole_llm_interest.training.unused import warn_of_unused

#: explicit settings that are not written to the variant: they choose what is reported, not how a model is trained
_COMPARISON_SETTINGS = {"model", "dataset", "metrics", "topk"}


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
    ray: str | None = None,
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
        ray: address of a cluster that runs trials at the same time; None for one after the other in this process.

    Raises:
        LLMInterestError: the space, the settings or the data cannot be used, or all trials diverged.
    """
    check_cluster(ray, algorithm)
    config = configure(model, dataset, config_file_list, config_dict)
    warn_of_unused([config])
    lines = _space_lines(space)
    log = TrialLog(trials_path(output), _shared_by_trials(config, lines, algorithm))
    search = _Search(config["model"], config["dataset"], config_file_list, dict(config_dict or {}), config, log)
    with shared_data_set_lock(Path(config["data_path"])), open_executor(ray) as executor:
        record_run(config, "tuning", [output, log.path])
        search.run(space, algorithm, trials, executor)
        return _written(output, search.best_variant(f"{algorithm} search over {', '.join(lines)}"))


def _shared_by_trials(config: Config, space: list[str], algorithm: str) -> dict[str, Any]:
    """Return what a log of trials has to agree with."""
    identity = {name: config[name] for name in ("model", "dataset", "seed")}
    return explicit_settings(config) | identity | {"space": space, "algorithm": algorithm}


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

    def run(self, space: Path, algorithm: str, trials: int, executor: Executor) -> None:
        """Run the trials that the log lacks, by ``executor`` unless they depend on each other."""
        check_trackers([self.config])
        title, is_quiet = f"Searching {one_line(self.model)}", not self.config["show_progress"]
        # RecBole prints; hyperopt warns about its own packaging
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with tqdm(desc=title, unit="trial", ncols=100, disable=is_quiet) as bar:
                if algorithm == "bayes":
                    self._draw(space, algorithm, trials, bar, functools.partial(self._run_next, bar))
                    return
                drawn: list[dict[str, Any]] = []
                self._draw(space, algorithm, trials, bar, drawn.append)
                self._run_all(drawn, executor, bar)

    def _draw(
        self, space: Path, algorithm: str, trials: int, bar: tqdm[Any], try_out: Callable[[dict[str, Any]], Any]
    ) -> None:
        """Draw settings by RecBole's search; it goes on with what ``try_out`` returns: the score, None for the worst.

        Raises:
            SettingsError: the search space cannot be used.
        """
        from recbole.trainer import HyperTuning

        bigger = self.config["valid_metric_bigger"]
        worst = -math.inf if bigger else math.inf

        def objective(drawn: dict[str, Any], _: object = None) -> dict[str, Any]:
            score = try_out(json_values(drawn))  # as in the log: hyperopt makes tuples of lists
            score = {"best_valid_score": worst if score is None else score, "valid_score_bigger": bigger}
            return {"model": self.model, **score, "best_valid_result": {}, "test_result": {}}

        try:
            search = HyperTuning(objective, params_file=str(space), algo=algorithm, max_evals=trials)
        except (ValueError, SyntaxError) as error:
            raise SettingsError(f"search space {space} is not in RecBole's form: {error}") from error
        if not search.space:
            raise SettingsError(f"search space {space} has no line such as 'learning_rate choice [0.001,0.003]'")
        check_keys(search.space)
        search.early_stop_fn = None  # it would end the search early, and fails if the first trial diverged
        bar.reset(search.max_evals)
        os.environ["HYPEROPT_FMIN_SEED"] = str(self.config["seed"])  # RecBole does not pass a seed to hyperopt
        search.run()

    def _run_all(self, drawn: list[dict[str, Any]], executor: Executor, bar: tqdm[Any]) -> None:
        """Run trials that do not depend on each other; each is logged when it ends."""
        different = [one for number, one in enumerate(drawn) if one not in drawn[:number]]
        missing = [(number, one) for number, one in enumerate(different, 1) if self.log.find(one) is None]
        bar.reset(len(different))
        bar.update(len(different) - len(missing))
        uses_gpu = bool(self.config["use_gpu"]) and str(self.config["gpu_id"]) != ""
        runner = self._runner(is_remote=executor.is_remote)
        for trial in executor.map(lambda: runner, missing, uses_gpu=uses_gpu):
            self.log.add(trial, different)
            self._show(trial["score"], bar)

    def _runner(self, *, is_remote: bool = False) -> TrialRunner:
        return TrialRunner(self.model, self.dataset, self.files, self.shared, self.log.path.stem, is_remote)

    def _run_next(self, bar: tqdm[Any], drawn: dict[str, Any]) -> float | None:
        """Run a trial unless the log has it; returns its score, None if training diverged."""
        trial = self.log.find(drawn)
        if trial is None:
            trial = self._runner()((len(self.log.trials) + 1, drawn))
            self.log.add(trial)
        self._show(trial["score"], bar)
        return trial["score"]

    def _show(self, score: float | None, bar: tqdm[Any]) -> None:
        best = self.log.best(self.config["valid_metric_bigger"])
        shown, shown_best = _format(score), _format(best["score"] if best else None)
        bar.update()
        bar.set_postfix_str(f"{self.config['valid_metric']} {shown}, best {shown_best}")

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


def _space_lines(space: Path) -> list[str]:
    """Return the lines of a search space with single spaces, without empty lines."""
    return [" ".join(line.split()) for line in read_text(space, SEARCH_SPACE).splitlines() if line.strip()]


def _format(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
