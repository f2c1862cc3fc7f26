"""One run of a comparison: what it resumes, what is checked before any run begins, and its execution."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.distributed import run_in_processes
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.results import RunResult, changed_file
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.patches.checkpoints import CHECKPOINT_SUFFIX
from recbole_llm_interest.training.checkpoint import check_checkpoint_settings, resume_path
from recbole_llm_interest.training.experiment import run_experiment, supports_distributed_training
from recbole_llm_interest.training.resume import check_resume_state, load_resume_state
from recbole_llm_interest.training.run_metadata import changed_setting, digest, run_identity

#: bytes of a table's name in the names of resume states, so that these are shorter than the 255 of a file system
_MAX_STEM_BYTES = 120


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        variant: the model with its settings.
        config: RecBole's configuration of it, with one seed.
        checkpoint: as for ``run`` of ``training.comparison``, and so are ``nproc``, ``resume`` and ``table``.
        comparison: name of the comparison.
    """

    variant: Variant
    config: Config
    checkpoint: str | None
    nproc: int
    resume: str | None
    table: Path | None
    comparison: str

    @property
    def state_file(self) -> Path | None:
        """Path of the resume state; None for the one beside the checkpoint.

        With a table, the same command finds the state again by its name.
        """
        if self.resume is not None:
            return resume_path(Path(self.resume))
        if self.table is None:
            return None
        seed = self.config["seed"]
        key = digest([self.table.resolve(), self.variant.name, seed])[:8]
        stem = self.table.stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
        name = f"{self.config['model']}-{stem}-{seed}-{key}{CHECKPOINT_SUFFIX}"
        return resume_path(Path(self.config["checkpoint_dir"]) / name)

    def check(self) -> None:
        """Check that the checkpoint to evaluate or the state to resume has these settings.

        Raises:
            CheckpointError: it has others, or cannot be read.
        """
        if self.checkpoint is not None:
            check_checkpoint_settings(Path(self.checkpoint), self.config)
        state = self.state_file
        if state is not None and (self.resume is not None or state.exists()):
            check_resume_state(state, load_resume_state(state), self.config)

    def execute(self) -> RunResult:
        """Train and test, or test the checkpoint."""
        files = self.checkpoint, self.state_file
        return run_in_processes(self._processes(), run_experiment, self.variant, self.config, *files, self.comparison)

    def check_known(self, known: RunResult, files: Mapping[str, str]) -> None:
        """Check that a finished run has these settings and data.

        Args:
            known: result of the run.
            files: hashes of the data set's files.

        Raises:
            SettingsError: it has others.
        """
        if (changed := changed_setting(vars(known), run_identity(self.config))) is not None:
            key, then, now = changed
            raise SettingsError(
                f"row {known.variant!r}, seed {known.seed}, was run with {key}={then!r}, now {now!r}: give the row "
                "another name, or the table another file"
            )
        if (file := changed_file(known.files, files)) is not None:
            raise SettingsError(
                f"row {known.variant!r}, seed {known.seed}, was run on other data: {file} has changed since; give "
                "another --table, or the file as it was"
            )

    def remove_state(self, result: RunResult) -> None:
        """Remove the resume state of a run whose result is kept."""
        if self.checkpoint is None:
            (self.state_file or resume_path(Path(result.checkpoint))).unlink(missing_ok=True)

    def _processes(self) -> int:
        if self.nproc == 1 or self.checkpoint is not None:
            return 1
        if supports_distributed_training(self.config):
            return self.nproc
        logging.getLogger().warning(
            "%s does not support training by several processes: one is used", self.config["model"]
        )
        return 1
