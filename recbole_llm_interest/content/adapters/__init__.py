"""Adapters: a few trained parameters inside a frozen encoder.

A new kind of adapter is a function that attaches it, and one line that registers it::

    @ADAPTERS.register("mine")
    def attach(network, options, steps): ...
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from recbole_llm_interest.content.encoders.adapter_file import AdapterOptions
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import Registry


class AttachedAdapter:
    """A network with an adapter, ready to be trained or used.

    Args:
        network: to use instead of the one without.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name: all that an adapter consists of."""
        return {name: values for name, values in self.network.named_parameters() if values.requires_grad}

    def regularization(self) -> Tensor | float:
        """A term of the training loss, a scalar, for methods that have one."""
        return 0.0

    def after_update(self, step: int) -> None:
        """Called in each training step after the parameters are updated, while gradients are there, for schedules."""

    def training_state(self) -> dict[str, dict[str, Tensor]]:
        """What a resumed training needs beside the parameters: tensors ``[...]`` by group and name."""
        return {}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Set what ``training_state`` returned: tensors ``[...]`` by group and name."""


_LISTS = (nn.ModuleList, nn.Sequential)
#: functions that attach an adapter to a network in place
ADAPTERS: Registry[Callable[[nn.Module, AdapterOptions, int], AttachedAdapter]] = Registry("adapter", "adapt_method")

ADAPTERS.register_lazy("lora", f"{__name__}.low_rank:attach_lora")
ADAPTERS.register_lazy("adalora", f"{__name__}.low_rank:attach_adalora")
ADAPTERS.register_lazy("ia3", f"{__name__}.low_rank:attach_ia3")
ADAPTERS.register_lazy("prefix", f"{__name__}.low_rank:attach_prefix")
ADAPTERS.register_lazy("bottleneck", f"{__name__}.bottleneck:attach_bottleneck")
ADAPTERS.register_lazy("bitfit", f"{__name__}.bottleneck:attach_bitfit")


def attach(network: nn.Module, options: AdapterOptions, steps: int = 1) -> AttachedAdapter:
    """Freeze a network and attach a new adapter to it. Before it is trained, only ``prefix`` changes the features.

    Args:
        network: is changed in place.
        options: of the adapter.
        steps: of training, for methods with a schedule.

    Raises:
        EncoderError: the adapter does not fit the network, or peft is not installed.
        SettingsError: the method is unknown.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        >>> adapter = attach(network, AdapterOptions("bitfit", rank=1, layers=1))
        >>> list(adapter.parameters)
        ['1.bias']
    """
    network.requires_grad_(False)
    adapter = ADAPTERS[options.method](network, options, steps)
    if not adapter.parameters:
        raise EncoderError(f"adapt_method={options.method}: the encoder has nothing that it can adapt")
    return adapter


def check_fit(network: nn.Module, options: AdapterOptions) -> None:
    """Check that an adapter can be attached to a network, which stays as it is.

    Raises:
        EncoderError: as for ``attach``.
        SettingsError: the method is unknown.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    attach(copy.deepcopy(network, shared), options)  # a copy of the modules alone, with the same weights
    network.requires_grad_(False)


def upper_blocks(network: nn.Module, layers: int | None) -> dict[str, nn.Module]:
    """The last ``layers`` blocks of a network by name, or all.

    Raises:
        EncoderError: it has fewer.
    """
    blocks = all_blocks(network)
    if layers is not None and not 1 <= layers <= len(blocks):
        raise EncoderError(f"adapt_layers={layers}: the encoder has {len(blocks)} layers")
    return dict(list(blocks.items())[-(layers or len(blocks)) :])


def all_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a network by name, in the order of execution.

    They are the members of its lists of modules that have parts of their own and are no lists: the layers of a
    Transformer, the residual blocks of a convolutional network. A network without such a list has its children.
    """
    return dict(_listed_blocks(network, "", is_list=False)) or dict(network.named_children())


def _listed_blocks(module: nn.Module, prefix: str, is_list: bool) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if is_list and not isinstance(child, _LISTS):
            if any(True for _ in child.children()):
                yield path, child
        else:
            yield from _listed_blocks(child, f"{path}.", isinstance(child, _LISTS))


def modules_within(blocks: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """All modules in blocks, by their names in the network."""
    for name, block in blocks.items():
        yield from ((f"{name}.{inner}" if inner else name, module) for inner, module in block.named_modules())
