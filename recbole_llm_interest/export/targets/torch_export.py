"""Programs for torch: ``torch.export.load`` reads them, in Python or C++."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch.export import ExportedProgram

from recbole_llm_interest.export.programs import Program
from recbole_llm_interest.export.targets import Run
from recbole_llm_interest.io.files import write_atomically


class TorchExport:
    """The format of ``torch.export.save``; see ``ExportTarget``."""

    suffix: ClassVar[str] = ".pt2"
    packages: ClassVar[tuple[str, ...]] = ()

    def write(self, exported: ExportedProgram, program: Program, max_length: int, path: Path) -> Run:
        """Write a program and read it back; see ``ExportTarget.write``."""
        write_atomically(path, lambda file: torch.export.save(exported, file))
        module = torch.export.load(path).module()
        return lambda inputs: module({name: inputs[name] for name in program.fields})  # inputs go by their order
