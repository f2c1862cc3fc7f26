"""Adapters without a library: bottlenecks after each layer, and the encoder's own biases."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recbole_llm_interest.content.adapters import AttachedAdapter, modules_within, upper_blocks
from recbole_llm_interest.content.encoders.adapter_file import AdapterOptions
from recbole_llm_interest.errors import EncoderError


def attach_bitfit(network: nn.Module, options: AdapterOptions, steps: int) -> AttachedAdapter:
    """Train the biases that the network has (Ben Zaken et al., arXiv 2106.10199)."""
    for _, module in modules_within(upper_blocks(network, options.layers)):
        if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            bias.requires_grad_()
    return AttachedAdapter(network)


def attach_bottleneck(network: nn.Module, options: AdapterOptions, steps: int) -> AttachedAdapter:
    """Add a small residual network after each layer (Houlsby et al., arXiv 1902.00751).

    Raises:
        EncoderError: a layer's output has no known width.
    """
    for name, block in upper_blocks(network, options.layers).items():
        block.add_module(_Bottleneck.name, _Bottleneck(_width(name, block), options.rank).to(next(block.parameters())))
        block.register_forward_hook(_add_bottleneck)
    return AttachedAdapter(network)


class _Bottleneck(nn.Module):
    """``x + up(gelu(down(x)))`` over the last dimension, or over the channels of images, ``[B, C, H, W]``.

    Args:
        width: of the input.
        rank: width of the bottleneck.
    """

    name = "bottleneck"

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)  # at first, nothing changes
        nn.init.zeros_(self.up.bias)

    def forward(self, values: Tensor) -> Tensor:
        is_image = values.dim() == 4
        states = values.movedim(1, -1) if is_image else values
        change = self.up(nn.functional.gelu(self.down(states)))
        return values + (change.movedim(-1, 1) if is_image else change)


def _add_bottleneck(block: nn.Module, inputs: Any, output: Any) -> Any:
    """A hook: layers of transformers return a tensor, or a tuple that begins with one."""
    bottleneck = block.get_submodule(_Bottleneck.name)
    return (bottleneck(output[0]), *output[1:]) if isinstance(output, tuple) else bottleneck(output)


def _width(name: str, block: nn.Module) -> int:
    """The width of a layer's output: that of its last vector of parameters, of a normalization or a bias.

    Raises:
        EncoderError: it has none.
    """
    widths = [values.shape[0] for values in block.parameters() if values.dim() == 1]
    if not widths:
        raise EncoderError(f"adapt_method=bottleneck: the layer {name} of the encoder has no known width")
    return widths[-1]
