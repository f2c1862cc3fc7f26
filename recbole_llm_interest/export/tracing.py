"""Traces programs with ``torch.export``, for any number of users and any length of histories."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
    tracker = getattr(program, "tracker", None)
    has_attention = tracker is not None and tracker.encoder.has_attention
    sizes = {name: Dim(name) for name in ("batch", "events")} | dict.fromkeys(("carried", "past"), Dim.DYNAMIC)
    sizes["length"] = Dim("length", max=max_length) if has_attention else Dim.DYNAMIC
    shapes = {
        name: {place: sizes[size] for place, size in enumerate(field.shape) if isinstance(size, str)}
        for name, field in program.fields.items()
    }
    example = program.example(max_length)
    try:
        with torch.no_grad(), traceable():
            exported = torch.export.export(program, (example,), dynamic_shapes=(shapes,))
    except Exception as error:  # torch raises a dozen kinds, with pages of text
        reason = str(error).strip().split("\n")[0]
        raise ExportError(
            f"{type(program).__name__.lower()} cannot be exported by torch {torch.__version__}: {reason}"
        ) from error
    exported.example_inputs = None  # they would be written as a pickle
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it names this machine's folders
    return exported


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
