"""Writes a model's programs, reads them back and compares them with the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from recbole_llm_interest.errors import ExportError
from recbole_llm_interest.export.equality import largest_differences
from recbole_llm_interest.export.layers import Field
from recbole_llm_interest.export.programs import Program, programs_of
from recbole_llm_interest.export.targets import EXPORT_TARGETS, ExportTarget, Run
from recbole_llm_interest.export.tracing import trace
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training.environment_info import environment_info

#: largest difference between a program and the model that rounding explains
_TOLERANCE = 1e-5
DESCRIPTION = "programs.json"


@dataclass(frozen=True)
class Written:
    """A program that was written.

    Attributes:
        program: its name.
        file: its path.
        difference: the largest from the model, see ``largest_differences``.
    """

    program: str
    file: Path
    difference: float


def write_programs(
    model: LLMInterest,
    max_length: int,
    folder: Path,
    *,
    k: int | None = None,
    targets: Sequence[str] = ("torch",),
) -> list[Written]:
    """Write every program of a model, and ``programs.json``, which describes their inputs and outputs.

    Args:
        model: trained, on the CPU.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        folder: is created if it does not exist.
        k: number of best items that a program scores; None for all items.
        targets: names of ``EXPORT_TARGETS``.

    Returns:
        The programs of the first target, then those of the next.

    Raises:
        ExportError: a package is missing, a program cannot be exported, or it differs from the model by more than
            rounding errors.
        SettingsError: a target is unknown, or there are fewer than ``k`` items.
        StorageError: a file cannot be written.
    """
    formats = [EXPORT_TARGETS[name]() for name in targets]
    _check_packages(formats)
    programs = programs_of(model, k)
    runs = _write_all(programs, formats, max_length, folder)
    written = _compare(formats, runs, model, max_length, folder)
    description = json.dumps(_describe(programs, model, max_length, written), indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / DESCRIPTION, lambda file: file.write(description.encode()))
    return written


def _check_packages(targets: Sequence[ExportTarget]) -> None:
    """Refuse what cannot be written here.

    Raises:
        ExportError: torch is too old, or a package of a target is missing.
    """
    if find_spec("torch.export._patches") is None:
        raise ExportError(
            f"torch {torch.__version__} cannot export recurrent layers for histories of any length: install torch 2.13"
        )
    for target in targets:
        for package in target.packages:
            if find_spec(package) is None:
                raise ExportError(
                    f"{target.suffix} programs need the package {package}: pip install 'recbole_llm_interest[export]'"
                )


def _compare(
    targets: Sequence[ExportTarget],
    runs: Sequence[dict[str, Run]],
    model: LLMInterest,
    max_length: int,
    folder: Path,
) -> list[Written]:
    """Compare the programs that were read back with the model.

    Raises:
        ExportError: one differs by more than rounding errors.
    """
    written = []
    for target, run in zip(targets, runs, strict=True):
        with torch.no_grad():
            differences = largest_differences(run, model, max_length)
        written += [Written(name, _path(folder, name, target), value) for name, value in differences.items()]
    for one in written:
        if not one.difference <= _TOLERANCE:
            raise ExportError(
                f"{one.file} differs from the model by {one.difference:.3g}: do not use it, and report it"
            )
    return written


def _write_all(
    programs: Mapping[str, Program], targets: Sequence[ExportTarget], max_length: int, folder: Path
) -> list[dict[str, Run]]:
    """Write each program for each target; for each target, the programs that were read back, by name."""
    runs: list[dict[str, Run]] = [{} for _ in targets]
    with tqdm(total=len(programs) * len(targets), desc="exporting", unit="program") as bar:
        for name, program in programs.items():
            exported = trace(program, max_length)
            for target, run in zip(targets, runs, strict=True):
                run[name] = target.write(exported, program, max_length, _path(folder, name, target))
                bar.update()
    return runs


def _path(folder: Path, program: str, target: ExportTarget) -> Path:
    return folder / f"{program}{target.suffix}"


def _describe(
    programs: Mapping[str, Program], model: LLMInterest, max_length: int, written: Sequence[Written]
) -> dict[str, Any]:
    """What code that runs the programs has to know, for ``programs.json``."""
    carried = list(model.tracker.neutral_state(1).carried.shape)
    beginning = (
        "carried and user are start's, for somebody unknown with every has_user_… false"
        if "start" in programs
        else f"carried is {carried} zeros, 1 being the batch"
    )
    return {
        "items": "row n is item n of vocabulary.json; row 0 is none",
        "max_length": max_length,
        "before the first event": f"history, codes and past have no length, recent is zeros; {beginning}",
        "environment_info": environment_info(torch.device("cpu")),
        "programs": {name: _describe_program(name, program, written) for name, program in programs.items()},
    }


def _describe_program(name: str, program: Program, written: Sequence[Written]) -> dict[str, Any]:
    return {
        "files": {
            one.file.name: {"largest difference from the model": one.difference}
            for one in written
            if one.program == name
        },
        "inputs": {key: _describe_field(field) for key, field in program.fields.items()},
        "outputs": program.meanings,
    }


def _describe_field(field: Field) -> dict[str, Any]:
    return {
        "shape": list(field.shape),
        "type": str(field.dtype).removeprefix("torch."),
        "meaning": field.meaning,
    }
