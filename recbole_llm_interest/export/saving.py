"""Writes a model's programs, reads them back, and makes sure that they do what the model does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from tqdm import tqdm

from recbole_llm_interest.errors import ExportError
from recbole_llm_interest.export.equality import Run, largest_differences
from recbole_llm_interest.export.programs import Program, Tensors, programs_of, trace, traceable
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training.run_metadata import environment_info

#: how far a program may be from the model: rounding errors
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Written:
    """A program that was written.

    Attributes:
        program: its name.
        file: where it lies.
        difference: the largest from the model, see ``largest_differences``.
    """

    program: str
    file: Path
    difference: float


def write_programs(
    model: LLMInterest, max_length: int, folder: Path, *, k: int | None = None, onnx: bool = False
) -> list[Written]:
    """Write every program of a model, and ``programs.json``, which says what goes in and what comes out.

    Args:
        model: trained, on the CPU.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        folder: is made if it is not there.
        k: how many of the best items are scored; None for all.
        onnx: whether to write them for ONNX, too.

    Raises:
        ExportError: a package is missing, or a program differs from the model by more than rounding errors.
        SettingsError: there are not ``k`` items.
        StorageError: a file cannot be written.
    """
    _check_packages(onnx)
    programs = programs_of(model, k)
    run: dict[str, dict[str, Run]] = {".pt2": {}, **({".onnx": {}} if onnx else {})}
    with tqdm(total=len(programs) * len(run), desc="exporting", unit="program") as bar:
        for name, program in programs.items():
            exported = trace(program, max_length)
            for suffix, found in run.items():
                path = folder / f"{name}{suffix}"
                found[name] = (
                    _torch(exported, program, path) if suffix == ".pt2" else _onnx(exported, program, max_length, path)
                )
                bar.update()
    written = []
    for suffix, found in run.items():
        with torch.no_grad():
            differences = largest_differences(found, model, max_length)
        written += [Written(name, folder / f"{name}{suffix}", value) for name, value in differences.items()]
    for it in written:
        if not it.difference <= _TOLERANCE:
            raise ExportError(f"{it.file} differs from the model by {it.difference:.3g}: do not use it, and tell us")
    described = json.dumps(_described(programs, model, max_length, written), indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / "programs.json", lambda file: file.write(described.encode()))
    return written


def _check_packages(onnx: bool) -> None:
    if find_spec("torch.export._patches") is None:
        raise ExportError(
            f"torch {torch.__version__} cannot export histories of any length; torch 2.13 can: install that"
        )
    for package in ("onnx", "onnxscript", "onnxruntime") if onnx else ():
        if find_spec(package) is None:
            raise ExportError(f"--onnx needs the package {package}: pip install 'recbole_llm_interest[export]'")


def _torch(exported: ExportedProgram, program: Program, path: Path) -> Run:
    """Write a program for torch; what it does, read back."""
    write_atomically(path, lambda file: torch.export.save(exported, file))
    again = torch.export.load(path).module()
    return lambda inputs: again({name: inputs[name] for name in program.fields})  # they are told apart by their order


def _onnx(exported: ExportedProgram, program: Program, max_length: int, path: Path) -> Run:
    """Write a program for ONNX; what it does, read back."""
    from onnxruntime import InferenceSession, SessionOptions

    example = program.example(max_length)
    with torch.no_grad(), traceable(), _quietly():
        converted = torch.onnx.export(
            exported,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=list(example),
            output_names=list(program(example)),
        )
    if converted is None:
        raise ExportError(f"torch gave no ONNX program for {path}")
    try:
        data = converted.model_proto.SerializeToString()
    except ValueError as error:
        raise ExportError(
            f"{path} cannot be written: an ONNX file holds at most 2 GB, and the items take more"
        ) from error
    write_atomically(path, lambda file: file.write(data))
    options = SessionOptions()
    options.log_severity_level = 3
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        given = {field.name: inputs[field.name].numpy() for field in session.get_inputs()}
        return {name: torch.from_numpy(value) for name, value in zip(names, session.run(names, given), strict=True)}

    return run


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep away what the converter says to developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _described(
    programs: Mapping[str, Program], model: LLMInterest, max_length: int, written: Sequence[Written]
) -> dict[str, Any]:
    """What a program that runs these has to know."""
    state = model.tracker.neutral_state(1)
    described: dict[str, Any] = {
        "items": "row n is item n of vocabulary.json; row 0 is none",
        "max_length": max_length,
        "before the first event": "history and past have no length; carried and user are start's, for somebody unknown "
        "with every has_user_… false"
        if "start" in programs
        else f"history and past have no length; carried is {list(state.carried.shape)} zeros, 1 being the batch",
        "environment_info": environment_info(torch.device("cpu")),
        "programs": {},
    }
    for name, program in programs.items():
        described["programs"][name] = {
            "files": {it.file.name: {"largest difference from the model": it.difference} for it in written
                      if it.program == name},
            "inputs": {
                key: {
                    "shape": list(field.shape),
                    "type": str(field.dtype).removeprefix("torch."),
                    "meaning": field.meaning,
                }
                for key, field in program.fields.items()
            },
            "outputs": program.meanings,
        }  # fmt: skip
    return described
