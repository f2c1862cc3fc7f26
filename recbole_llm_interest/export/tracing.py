"""Traces programs with ``torch.export``, for any number of users and any length of histories."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from recbole_llm_interest.errors import ExportError
from recbole_llm_interest.export.programs import Program


def trace(program: Program, max_length: int) -> ExportedProgram:
    """Trace a program, which then needs no Python.

    Args:
        program: of ``programs_of``.
        max_length: events that a tracker with attention reads at once.

    Raises:
        ExportError: torch cannot trace it.
    """
    example = program.example(max_length)
    shapes = _dynamic_shapes(program, max_length)
    try:
        with torch.no_grad(), traceable():
            exported = torch.export.export(program, (example,), dynamic_shapes=(shapes,))
    except Exception as error:  # torch raises a dozen kinds, with pages of text
        reason = str(error).strip().split("\n")[0]
        raise ExportError(
            f"{type(program).__name__.lower()} cannot be exported by torch {torch.__version__}: {reason}"
        ) from error
    exported.example_inputs = None  # they would be written as a pickle
    _remove_stack_traces(exported)
    return exported


def _dynamic_shapes(program: Program, max_length: int) -> dict[str, dict[int, Any]]:
    """The sizes that may vary, by input and dimension."""
    tracker = getattr(program, "tracker", None)
    has_attention = tracker is not None and tracker.encoder.has_attention
    sizes = {name: Dim(name) for name in ("batch", "events")} | dict.fromkeys(("carried", "past"), Dim.DYNAMIC)
    sizes["length"] = Dim("length", max=max_length) if has_attention else Dim.DYNAMIC
    return {
        name: {dimension: sizes[size] for dimension, size in enumerate(field.shape) if isinstance(size, str)}
        for name, field in program.fields.items()
    }


def _remove_stack_traces(exported: ExportedProgram) -> None:
    """Remove what torch notes of each operation's origin: it names this machine's folders."""
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)


@contextmanager
def traceable() -> Iterator[None]:
    """Let torch trace recurrent layers as loops of any length, by its own patches, which torch.onnx uses as well.

    Attention is traced in plain operations, which every runtime has, and not in the fused one of this machine.
    """
    from torch.export._patches import register_gru_while_loop_decomposition, register_lstm_while_loop_decomposition

    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch's about its own code
        stack.enter_context(register_lstm_while_loop_decomposition())
        stack.enter_context(register_gru_while_loop_decomposition())
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        yield
