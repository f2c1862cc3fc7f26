"""Optimizers, gradient clipping and learning rate schedules."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class DenseAndSparse(torch.optim.Optimizer):
    """Two optimizers as one: of dense parameters, and of embeddings with sparse gradients.

    The sparse optimizer updates only the rows that a step has used, so that a step's cost does not depend on the size
    of the table. RecBole, schedules and gradient scalers see one optimizer with the parameter groups of both. Weight
    decay is an L2 term of the gradient, as in Adam; a row decays only in steps that use it.

    Args:
        dense: optimizer of dense parameters.
        sparse: optimizer of embeddings with sparse gradients.
        weight_decay: coefficient of the L2 term of the embeddings.
    """

    def __init__(self, dense: torch.optim.Optimizer, sparse: torch.optim.Optimizer, weight_decay: float) -> None:
        self.dense, self.sparse, self.weight_decay = dense, sparse, weight_decay
        super().__init__([*dense.param_groups, *sparse.param_groups], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        for group in self.sparse.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and self.weight_decay:
                    weight.grad = weight.grad.coalesce()
                    weight.grad.values().add_(weight[weight.grad.indices()[0]], alpha=self.weight_decay)
        self.dense.step()
        self.sparse.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimizers."""
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of both optimizers."""
        self.dense.load_state_dict(state_dict["dense"])
        self.sparse.load_state_dict(state_dict["sparse"])
        self.param_groups = [*self.dense.param_groups, *self.sparse.param_groups]


def moments_of(saved: Mapping[str, Any], names: Sequence[str], sparse: str) -> dict[str, dict[str, Any]]:
    """Return what an optimizer remembered of each parameter, by the parameter's name.

    Args:
        saved: the ``state_dict`` of an optimizer, or of ``DenseAndSparse``.
        names: of the model's parameters in their order.
        sparse: name of the parameter that an optimizer of its own updates, if there is one.
    """
    if "dense" not in saved:
        return _by_name(saved, names)
    dense = [name for name in names if name != sparse]
    return _by_name(saved["dense"], dense) | _by_name(saved["sparse"], [sparse])


def _by_name(saved: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The states of one optimizer; none if the number of its parameters is another one than that of the names."""
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    if len(numbers) != len(names):
        return {}
    return {
        name: saved["state"][number] for name, number in zip(names, numbers, strict=True) if number in saved["state"]
    }


def load_moments(
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module,
    moments: Mapping[str, Mapping[str, Any]],
    given: Callable[[str, Mapping[str, Tensor]], Any],
) -> bool:
    """Make an optimizer go on with what another one remembered; return whether there was anything.

    Args:
        optimizer: before its first step.
        model: whose parameters it updates.
        moments: from ``moments_of``.
        given: as ``RowMap.of``: what tensors ``[...]`` by name give to a parameter. What is new in them is zero.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    by_kind = _by_kind(moments)

    def continued(part: torch.optim.Optimizer) -> dict[str, Any]:
        parameters = itertools.chain.from_iterable(group["params"] for group in part.param_groups)
        found = [{kind: given(names[one], values) for kind, values in by_kind.items()} for one in parameters]
        return _with_states(part, found)

    if isinstance(optimizer, DenseAndSparse):
        optimizer.load_state_dict({"dense": continued(optimizer.dense), "sparse": continued(optimizer.sparse)})
    else:
        optimizer.load_state_dict(continued(optimizer))
    return bool(moments)


def _with_states(optimizer: torch.optim.Optimizer, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ``state_dict`` of an optimizer with what is given of each of its parameters, in their order."""
    parameters = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
    states = {
        number: {kind: _moment(one, parameter, optimizer) for kind, one in moments.items()}
        for number, (parameter, moments) in enumerate(zip(parameters, given, strict=True))
        if moments and _is_complete(moments, parameter)
    }
    return {**optimizer.state_dict(), "state": states}


def _by_kind(moments: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is remembered by what it is, such as ``exp_avg``, and by parameter."""
    by_kind: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, moment in moments.items():
        for kind, value in moment.items():
            by_kind[kind][name] = value
    return by_kind


def _is_complete(given: Mapping[str, Any], parameter: Tensor) -> bool:
    """Whether everything that is remembered is given, as numbers or tensors that fit a parameter, ``[...]``."""
    return all(
        one is not None and (not isinstance(one.values, Tensor) or one.values.dim() == 0 or one.fits(parameter))
        for one in given.values()
    )


def _moment(given: Any, parameter: Tensor, optimizer: torch.optim.Optimizer) -> Any:
    """What an optimizer remembers of a parameter, ``[...]``: a tensor of the same shape, or a number of steps."""
    if isinstance(given.values, Tensor) and given.values.dim() > 0:
        return given.over(torch.zeros_like(parameter))
    steps = float(given.values)
    return int(steps) if isinstance(optimizer, torch.optim.SparseAdam) else torch.tensor(steps)


def has_fast_bfloat16() -> bool:
    """Return whether this processor multiplies matrices in bfloat16 no slower than in float32."""
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def clip_gradients(parameters: Iterable[Tensor], max_norm: float, **options: Any) -> None:
    """Clip the norm of all gradients, dense and sparse, as ``torch.nn.utils.clip_grad_norm_`` does for dense ones.

    Args:
        parameters: parameters of any shape ``[...]``.
        max_norm: maximum norm of all gradients together.
        options: options of ``torch.nn.utils.get_total_norm``.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    factor = (max_norm / (torch.nn.utils.get_total_norm(gradients, **options) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)


def learning_rate_schedule(kind: str, warmup: float, total: int) -> Callable[[int], float]:
    """Return the factor of the learning rate by step.

    >>> factor = learning_rate_schedule("linear", warmup=0, total=4)
    >>> [factor(step) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]

    Args:
        kind: schedule after the warm-up: ``constant``, or ``linear`` or ``cosine`` decay to zero.
        warmup: number of steps of linear warm-up.
        total: number of steps of the whole training.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (math.ceil(warmup) + 1)
        done = min((step - warmup) / max(total - warmup, 1), 1.0)
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[kind]

    return factor
