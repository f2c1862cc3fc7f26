"""``llm-interest migrate``: converts former checkpoints, which are pickles, to the current format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.parsers import migrate_parser
from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.first_bytes import CHECKPOINT_FILE
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint, read_resume_state
from recbole_llm_interest.io.checkpoints.schema import Checkpoint
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.manifest import record_made_from, source_of
from recbole_llm_interest.io.opening import is_there
from recbole_llm_interest.patches.checkpoints import CHECKPOINT_SUFFIX, without_callers_settings
from recbole_llm_interest.training.checkpoint import FORMER_RESUME_SUFFIX


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = migrate_parser()

    def job() -> None:
        options = parser.parse_args(arguments)
        converted: dict[Path, Path] = {}
        try:
            for path in map(Path, options.files):
                converted[path] = migrated(path)
                if not options.json:
                    show(f"{one_line(path)}: converted to {one_line(converted[path])}")
        finally:  # an error does not hide what was written before it
            if options.json:
                show_json({"converted": [{"file": path, "new": new} for path, new in converted.items()]})

    return exit_code(job, kept="written files are complete")


def migrated(path: Path) -> Path:
    """Convert a former checkpoint or resume state to the current format.

    Args:
        path: of the file, which is kept.

    Returns:
        The path of the new file.

    Raises:
        CheckpointError: the file cannot be read, or the new file already exists.
        StorageError: the new file cannot be written.
    """
    if path.name in ("", ".."):
        raise CHECKPOINT_FILE.refusal(path, "is not a regular file")
    new = path.with_suffix(CHECKPOINT_SUFFIX)
    if is_there(new):
        raise CheckpointError(f"{new} already exists: move it, or use it")
    is_resume_state = path.name.endswith(FORMER_RESUME_SUFFIX)
    state = cast(Checkpoint, read_resume_state(path)) if is_resume_state else load_checkpoint(path)
    config = state["config"]
    record_made_from(source_of(path, config["dataset"]), "resume state" if is_resume_state else "checkpoint", [new])
    write_state(new, {**state, "config": without_callers_settings(config)})
    return new
