"""Adapters by peft (https://github.com/huggingface/peft): LoRA, AdaLoRA, (IA)³ and prefix tuning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.adapters import AttachedAdapter, modules_within, upper_blocks
from recbole_llm_interest.content.encoders.adapter_file import AdapterOptions, require_adapter_packages
from recbole_llm_interest.errors import EncoderError

#: dropout on the input of low-rank updates, where the encoder's own dropout is on
_DROPOUT = 0.1
#: AdaLoRA starts with so many times the rank that it ends with
_SPARE_RANKS = 1.5
#: weight of AdaLoRA's term that keeps its factors orthogonal
_ORTHOGONALITY = 0.5
#: what AdaLoRA remembers of earlier steps
_IMPORTANCE, _KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc"), "kept"


def attach_lora(network: nn.Module, options: AdapterOptions, steps: int) -> AttachedAdapter:
    """Low-rank updates of linear layers and ordinary convolutions (Hu et al., arXiv 2106.09685)."""
    peft = _import_peft(options)
    targets = _targets(network, options)
    config = peft.LoraConfig(r=options.rank, lora_alpha=2 * options.rank, lora_dropout=_DROPOUT, target_modules=targets)
    peft.inject_adapter_in_model(config, network)
    return AttachedAdapter(network)


def attach_adalora(network: nn.Module, options: AdapterOptions, steps: int) -> AttachedAdapter:
    """Low-rank updates in SVD form; the least important singular values are pruned (Zhang et al., arXiv 2303.10512).

    Raises:
        EncoderError: the network has no linear layers among the adapted ones.
    """
    peft = _import_peft(options)
    targets = [name for name in _targets(network, options) if isinstance(network.get_submodule(name), nn.Linear)]
    if not targets:
        raise EncoderError("adapt_method=adalora: the encoder has no linear layers; lora adapts others, too")
    config = peft.AdaLoraConfig(
        init_r=max(options.rank + 1, round(_SPARE_RANKS * options.rank)),
        target_r=options.rank,
        lora_alpha=2 * options.rank,
        lora_dropout=_DROPOUT,
        target_modules=targets,
        total_step=max(steps, 4),  # ranks shrink in the middle half
        tinit=max(steps, 4) // 4,
        tfinal=max(steps, 4) // 4,
    )
    return _AdaLora(network, peft.tuners.AdaLoraModel(network, config, "default"))


def attach_ia3(network: nn.Module, options: AdapterOptions, steps: int) -> AttachedAdapter:
    """Scaling vectors of the outputs of linear layers and ordinary convolutions (Liu et al., arXiv 2205.05638)."""
    peft = _import_peft(options)
    targets = _targets(network, options)
    peft.inject_adapter_in_model(peft.IA3Config(target_modules=targets, feedforward_modules=[]), network)
    return AttachedAdapter(network)


def attach_prefix(network: nn.Module, options: AdapterOptions, steps: int) -> AttachedAdapter:
    """Learned keys and values before those of the text, in every layer (Li and Liang, arXiv 2101.00190).

    Raises:
        EncoderError: the network has no attention, or only some of its layers would be adapted.
    """
    peft = _import_peft(options)
    if options.layers is not None:
        raise EncoderError("adapt_method=prefix adapts all layers: set adapt_layers=~")
    if not hasattr(getattr(network, "config", None), "num_attention_heads"):
        raise EncoderError("adapt_method=prefix: the encoder has no attention, which a prefix is for")
    config = peft.PrefixTuningConfig(num_virtual_tokens=options.rank, task_type="FEATURE_EXTRACTION")
    return AttachedAdapter(peft.get_peft_model(network, config))


class _AdaLora(AttachedAdapter):
    """AdaLoRA, whose ranks shrink during training.

    Args:
        network: with the adapter.
        tuner: peft's.
    """

    def __init__(self, network: nn.Module, tuner: Any) -> None:
        super().__init__(network)
        self._tuner = tuner

    def regularization(self) -> Tensor:
        """How far the factors are from orthogonal, as in the paper's equation 4."""
        terms = []
        for name, factor in self.parameters.items():
            if ".lora_A." in name or ".lora_B." in name:
                product = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                terms.append((product - torch.eye(len(product), device=product.device)).norm())
        return _ORTHOGONALITY * torch.stack(terms).mean()

    def after_update(self, step: int) -> None:
        """Update the importance of singular values, and drop the least important ones."""
        self._tuner.update_and_allocate(step)

    def training_state(self) -> dict[str, dict[str, Tensor]]:
        """The importance of each singular value, and which of them are kept."""
        allocator = self._tuner.rankallocator
        kept = self._tuner.peft_config[self._tuner.trainable_adapter_name].rank_pattern
        return {
            **{name: dict(getattr(allocator, name)) for name in _IMPORTANCE},
            _KEPT: {name: torch.tensor(is_kept).float() for name, is_kept in (kept or {}).items()},
        }

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Set the importance of each singular value, and which of them are kept."""
        for name in _IMPORTANCE:
            setattr(self._tuner.rankallocator, name, state.get(name, {}))
        kept = {name: is_kept.bool().tolist() for name, is_kept in state.get(_KEPT, {}).items()}
        self._tuner.peft_config[self._tuner.trainable_adapter_name].rank_pattern = kept


def _targets(network: nn.Module, options: AdapterOptions) -> list[str]:
    """Names of the linear layers and convolutions in the adapted layers, without depthwise convolutions."""
    blocks = upper_blocks(network, options.layers)
    return [
        name
        for name, module in modules_within(blocks)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]


def _import_peft(options: AdapterOptions) -> Any:
    require_adapter_packages(options.method)
    activate()  # peft imports transformers, which imports torchvision, which may need a patch
    import peft

    return peft
