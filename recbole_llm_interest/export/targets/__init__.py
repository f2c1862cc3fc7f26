"""Export targets: the formats in which programs are written, by name.

A target is one class in one file that states its suffix and the packages that it requires. Code outside the package
registers its own:

>>> from recbole_llm_interest.export.targets import EXPORT_TARGETS
>>> list(EXPORT_TARGETS)[:2]
['torch', 'onnx']
>>> EXPORT_TARGETS["torch"]().suffix
'.pt2'
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol

from torch.export import ExportedProgram

from recbole_llm_interest.export.layers import Tensors
from recbole_llm_interest.export.programs import Program
from recbole_llm_interest.settings import Registry

#: a program: tensors by name in, tensors by name out
Run = Callable[[Tensors], Tensors]


class ExportTarget(Protocol):
    """A format in which programs are written.

    Attributes:
        suffix: of its files, with the dot.
        packages: names of the Python packages without which it cannot write or read a program.
    """

    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def write(self, exported: ExportedProgram, program: Program, max_length: int, path: Path) -> Run:
        """Write a program to ``path`` and read it back.

        Args:
            exported: the program, traced.
            program: the module that was traced, which knows names, shapes and meanings of inputs and outputs.
            max_length: ``MAX_ITEM_LIST_LENGTH``.
            path: the file.

        Returns:
            The program as it was read back, to be compared with the model.

        Raises:
            ExportError: the format cannot hold the program.
            StorageError: the file cannot be written.
        """
        ...


EXPORT_TARGETS: Registry[type[ExportTarget]] = Registry("export target")
EXPORT_TARGETS.register_lazy("torch", f"{__name__}.torch_export:TorchExport")
EXPORT_TARGETS.register_lazy("onnx", f"{__name__}.onnx:Onnx")
