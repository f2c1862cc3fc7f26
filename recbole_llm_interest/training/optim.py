"""Optimisers, gradient clipping and learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class DenseAndSparse(torch.optim.Optimizer):
    """Two optimisers as one: the second is of embeddings, and touches the rows that a step has met and no others.

    So a step's cost does not depend on the size of the table. RecBole, schedules and gradient scalers see one
    optimiser, with the groups of both. Weight decay, which is an L2 term of the gradient here, as Adam's is, reaches a
    row when it is met.
    """

    def __init__(self, dense: torch.optim.Optimizer, sparse: torch.optim.Optimizer, weight_decay: float) -> None:
        self.dense, self.sparse, self.weight_decay = dense, sparse, weight_decay
        super().__init__([*dense.param_groups, *sparse.param_groups], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step both."""
        for group in self.sparse.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and self.weight_decay:
                    weight.grad = weight.grad.coalesce()
                    weight.grad.values().add_(weight[weight.grad.indices()[0]], alpha=self.weight_decay)
        self.dense.step()
        self.sparse.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take on the state of both."""
        self.dense.load_state_dict(state_dict["dense"])
        self.sparse.load_state_dict(state_dict["sparse"])
        self.param_groups = [*self.dense.param_groups, *self.sparse.param_groups]


def has_fast_bfloat16() -> bool:
    """Whether this processor's matrix products are no slower in bfloat16 than in float32."""
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def clip_gradients(parameters: Iterable[Tensor], max_norm: float, **options: Any) -> None:
    """What ``torch.nn.utils.clip_grad_norm_`` does, for sparse gradients as well."""
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    share = (max_norm / (torch.nn.utils.get_total_norm(values, **options) + 1e-6)).clamp(max=1.0)
    for gradient in values:
        gradient.mul_(share)


def learning_rate_schedule(kind: str, warmup: float, total: int) -> Callable[[int], float]:
    """The share of the learning rate that holds at each step.

    Args:
        kind: what follows the warm-up: ``constant``, or a ``linear`` or ``cosine`` fall to zero at the end.
        warmup: steps over which the rate first rises.
        total: steps of the whole training.
    """

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (math.ceil(warmup) + 1)
        done = min((step - warmup) / max(total - warmup, 1), 1.0)
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[kind]

    return share
