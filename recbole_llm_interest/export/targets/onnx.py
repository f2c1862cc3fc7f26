"""Programs for ONNX runtimes, converted by ``torch.onnx``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch.export import ExportedProgram

from recbole_llm_interest.errors import ExportError
from recbole_llm_interest.export.layers import Tensors
from recbole_llm_interest.export.programs import Program
from recbole_llm_interest.export.targets import Run
from recbole_llm_interest.export.tracing import traceable
from recbole_llm_interest.io.files import write_atomically


class Onnx:
    """The ONNX format, with the weights in the same file; see ``ExportTarget``."""

    suffix: ClassVar[str] = ".onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")

    def write(self, exported: ExportedProgram, program: Program, max_length: int, path: Path) -> Run:
        """Write a program and read it back; see ``ExportTarget.write``.

        Raises:
            ExportError: torch cannot convert the program, or it exceeds 2 GB.
            StorageError: the file cannot be written.
        """
        data = _convert(exported, program, max_length, path)
        write_atomically(path, lambda file: file.write(data))
        return _load(path)


def _convert(exported: ExportedProgram, program: Program, max_length: int, path: Path) -> bytes:
    """The program as an ONNX file.

    Raises:
        ExportError: torch cannot convert the program, or it exceeds 2 GB.
    """
    example = program.example(max_length)
    with torch.no_grad(), traceable(), _quiet_converter():
        converted = torch.onnx.export(
            exported,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=list(example),
            output_names=list(program(example)),
        )
    if converted is None:
        raise ExportError(f"{path} cannot be written: torch gave no ONNX program")
    try:
        return bytes(converted.model_proto.SerializeToString())
    except ValueError as error:
        raise ExportError(
            f"{path} cannot be written: an ONNX file holds at most 2 GB, and the items need more"
        ) from error


def _load(path: Path) -> Run:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        arrays = {field.name: inputs[field.name].numpy() for field in session.get_inputs()}
        return {name: torch.from_numpy(value) for name, value in zip(names, session.run(names, arrays), strict=True)}

    return run


@contextmanager
def _quiet_converter() -> Iterator[None]:
    """Suppress the converter's warnings, which are for its developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
