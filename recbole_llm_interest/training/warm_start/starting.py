"""Starts a training from the weights of a trained model, also on a data set that has other items since.

Weights go from name to name. Those with a row for each item, modality or category go from row to row; new rows stay as
the model was built, and the ID embeddings of new items start as the mean of those of their nearest neighbours by
content. The optimizer's state goes along.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from torch import Tensor, nn
from tqdm import tqdm

from recbole_llm_interest.data.replay import LearnedBefore
from recbole_llm_interest.distributed import is_main_process
from recbole_llm_interest.errors import CheckpointError, SettingsError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.settings import (
    ContentSettings,
    WarmStartSettings,
    check_warm_start,
    read_settings,
)
from recbole_llm_interest.training.optim import load_moments, moments_of
from recbole_llm_interest.training.run_metadata import digest, json_values
from recbole_llm_interest.training.warm_start.row_maps import RowMap, encoder_modalities, row_maps
from recbole_llm_interest.training.warm_start.source import Source

_logger = logging.getLogger(__name__)
#: settings that give the weights their meaning, beside those that change their shapes
_FIXED = (
    *("tracker", "num_heads", "score", "fusion", "projection", "embedding_size", "hidden_size", "num_layers"),
    *("attention_readout", "last_item_skip", "event_window", "repeat_context", "time_features"),
)
#: settings that decide what conditioned features mean
_FIXED_OF_CONDITIONING = ("feature_conditioning", "conditioning_groups", "conditioning_size")
#: the same for a modality that both models have
_FIXED_OF_MODALITY = {
    "text": (
        *("text_encoder", "text_pooling", "text_prompt", "text_max_length", "text_truncate_dim", "text_adapter"),
        *("item_text_features", "user_text_features"),
    ),
    "image": ("image_encoder", "image_weights", "image_adapter", "item_image_features", "user_image_features"),
    "audio": ("audio_encoder", "audio_seconds", "audio_adapter", "item_audio_features", "user_audio_features"),
}


def source_named_by(config: Config) -> Source | None:
    """Return the source that ``init_from`` names, and tell RecBole's configuration what ``replay`` is relative to.

    Raises:
        CheckpointError: it cannot be used.
        SettingsError: another model is to be trained, or ``replay`` has no source.
    """
    settings = read_settings(WarmStartSettings, config)
    check_warm_start(config["model"], settings)
    if settings.init_from is None:
        return None
    if settings.replay is not None and settings.replay_by == "time" and _is_leave_one_out(config):
        raise SettingsError(
            "replay needs a split by time, time_split or benchmark_filename, or replay_by=items: with leave-one-out, "
            "what is new in the training data is older than what was trained on"
        )
    source = Source.read(settings.init_from, download=read_settings(ContentSettings, config).download_weights)
    if settings.replay is not None:
        _check_can_be_replayed(source, settings.replay_by)
    config["learned_before"] = LearnedBefore(source.trained_until, source.items)
    return source


def _is_leave_one_out(config: Config) -> bool:
    return config["time_split"] is None and config["benchmark_filename"] is None


def _check_can_be_replayed(source: Source, by: str) -> None:
    if by == "time" and source.trained_until is None:
        raise CheckpointError(
            f"init_from={source.name} does not say when its newest training event was, which replay needs: train it "
            "again on data with times, or set replay=~"
        )
    if by == "items" and not source.items:
        raise CheckpointError(
            f"init_from={source.name} was written by a former version, which did not record the items that "
            "replay_by=items needs: train it again, or set replay=~"
        )


def record_training(config: Config, dataset: Any) -> None:
    """Tell RecBole's configuration what checkpoints say of the training data: the items, and the newest event.

    Args:
        config: RecBole's, of a training.
        dataset: its training data.
    """
    items = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    config["item_digest"] = digest(items)
    if config["model"] == LLMInterest.__name__:
        lines = "\n".join(items).encode("utf-8", "surrogatepass")
        as_bytes = torch.frombuffer(bytearray(lines), dtype=torch.uint8)
        config["trained_on"] = {"items": as_bytes, "trained_until": dataset.trained_until}


def begin(trainer: Any, source: Source | None, dataset: Any) -> None:
    """Freeze what a training does not change, and give the model the weights of a source, if there is one.

    Args:
        trainer: with a new model.
        source: from ``source_named_by``.
        dataset: the training data.

    Raises:
        CheckpointError: the source does not fit.
        SettingsError: nothing is left to train.
    """
    settings = read_settings(WarmStartSettings, trainer.config)
    if source is not None:
        line = start_from(trainer, source, dataset.field2id_token[dataset.iid_field], settings)
        _logger.info(line)
        if is_main_process() and trainer.config["show_progress"]:
            tqdm.write(one_line(line), file=sys.stderr)
    if settings.frozen:
        freeze(trainer.model, settings.frozen)


def start_from(trainer: Any, source: Source, items: Sequence[Any], settings: WarmStartSettings) -> str:
    """Give a model the weights of a source, and return one line about what they were given to.

    Args:
        trainer: with a new model.
        source: trained before.
        items: ids of the model's items in the order of their rows.
        settings: of the start.

    Raises:
        CheckpointError: the source has other settings, or does not fit for another reason.
    """
    model, config = trainer.model, trainer.config
    _check_fixed_settings(source, config, model)
    maps = row_maps(model, source.weights, _rows_of(source, items, config), source.event_fields)
    values, kept = model.state_dict(), []
    _leave_out_norms(values, source.weights)
    for name, own in values.items():
        is_fitted = settings.init_conditioning == "target" and ".features." in name
        starts_anew = is_fitted or name.partition(".")[0] in settings.init_anew
        given = None if starts_anew else maps.of(name, source.weights)
        if given is None:
            kept.append(name)
        elif not given.fits(own):
            raise _mismatch(source, config, name, given.values, own)
        else:
            values[name] = given.over(own)
    model.load_state_dict(values)
    new_ids = _start_new_ids(model, source.weights, maps.items)
    has_moments = _carry_moments(trainer, source, maps, settings.init_anew)
    unused = len({*source.weights} - {maps.source_of(name) for name in values})
    kept = [name for name in kept if "features." not in name]
    return _line(source, maps.items, kept, unused, new_ids, has_moments)


def _leave_out_norms(values: dict[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Leave out norms of tokens ``[B, L, H]`` that former trackers lacked: the model then has none, either."""
    for name in [name for name in values if ".input_norm." in name and name not in weights]:
        del values[name]


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Exclude parts of a model from training.

    Args:
        model: to be trained.
        parts: attributes that hold them; those that the model lacks are ignored.

    Raises:
        SettingsError: nothing is left to train.
    """
    for part in parts:
        if (module := getattr(model, part, None)) is not None:
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise SettingsError(
            f"frozen={','.join(parts)}: nothing is left to train; set epochs=0 to test a model as it is"
        )


def _check_fixed_settings(source: Source, config: Config, model: nn.Module) -> None:
    of_modalities = [key for name in sorted(_shared_modalities(source, model)) for key in _FIXED_OF_MODALITY[name]]
    of_conditioning = _FIXED_OF_CONDITIONING if config["init_conditioning"] == "source" else ()
    for key in (*_FIXED, *of_modalities, *of_conditioning):
        then, now = (json_values({key: values})[key] for values in (source.settings.get(key), config[key]))
        # a folder names an encoder without the path that it had
        if key in source.settings and then not in (now, Path(str(now)).name):
            raise CheckpointError(
                f"init_from={source.name} was trained with {key}={then!r}, now {now!r}: it cannot change; give "
                f"--{key}={then}"
            )


def _shared_modalities(source: Source, model: nn.Module) -> set[str]:
    """The modalities that an encoder has in both models.

    Raises:
        CheckpointError: an encoder has others now, and its fusion cannot tell them apart.
    """
    shared = set[str]()
    for name, encoder in model.named_modules():
        others = encoder_modalities(name, source.weights) if isinstance(encoder, EntityEncoder) else []
        if not isinstance(encoder, EntityEncoder) or not others:
            continue
        if others != encoder.modalities and not encoder.combine.may_grow:
            raise CheckpointError(
                f"init_from={source.name}: {name} had {', '.join(others)}, now {', '.join(encoder.modalities)}, which "
                "its fusion reads by their positions: give the same modalities"
            )
        shared |= {*encoder.features} & {*others}
    return shared


def _rows_of(source: Source, items: Sequence[Any], config: Config) -> Tensor:
    """The source's row of each item, ``[N]``; -1 for a new one."""
    if not source.items:
        if source.item_digest != config["item_digest"]:
            raise CheckpointError(
                f"init_from={source.name} was written by a former version, which did not record the items, and "
                f"{config['dataset']} has others: train it again"
            )
        return torch.arange(len(items))
    row_of = {item: row for row, item in enumerate(source.items)}
    return torch.tensor([row_of.get(str(item), -1) for item in items])


def _mismatch(source: Source, config: Config, name: str, then: Tensor, now: Tensor) -> CheckpointError:
    saved = source.settings
    keys = ["MAX_ITEM_LIST_LENGTH", *(key for key in saved if key in config and key.islower())]
    changed = [
        f"{key}={saved[key]!r}, now {config[key]!r}" for key in keys if key in saved and saved[key] != config[key]
    ]
    return CheckpointError(
        f"init_from={source.name}: {name} has the shape {[*then.shape]}, now {[*now.shape]}; settings that differ: "
        f"{'; '.join(changed[:8]) or 'none'}"
    )


def _start_new_ids(model: Any, weights: Mapping[str, Tensor], rows: Tensor) -> int:
    """Start the ID embeddings that the source has not trained; return their number."""
    encoder, former = model.item_encoder, weights.get("item_encoder.id_embedding.weight")
    if encoder.id_embedding is None or former is None:
        return 0
    has_former = former.any(dim=1)  # an ID that is not in use is zero
    return int(encoder.start_ids(has_former[rows.clamp(min=0)] & (rows > 0)))


def _carry_moments(trainer: Any, source: Source, maps: RowMap, anew: Sequence[str]) -> bool:
    """Continue with the source's state of the optimizer, but for parts that start anew; return whether it could."""
    if source.optimizer is None or source.settings.get("learner") != trainer.config["learner"]:
        return False
    buffers = {name for name, _ in trainer.model.named_buffers()}
    names = [name for name in source.weights if name not in buffers and ".features." not in name]
    moments = moments_of(source.optimizer, names, "item_encoder.id_embedding.weight")
    moments = {name: values for name, values in moments.items() if name.partition(".")[0] not in anew}
    return load_moments(trainer.optimizer, trainer.model, moments, maps.of)


def _line(source: Source, rows: Tensor, kept: Sequence[str], unused: int, new_ids: int, has_moments: bool) -> str:
    matched = int((rows[1:] >= 0).sum())
    gone = max(len(source.items) - 1, matched) - matched
    parts = [f"{matched:,} items matched", f"{len(rows) - 1 - matched:,} new", f"{gone:,} dropped"]
    if new_ids:
        parts.append(f"{new_ids:,} ID embeddings start from neighbours")
    if kept:
        parts.append(f"{len(kept):,} weights are new: {', '.join(kept[:3])}{' …' if len(kept) > 3 else ''}")
    if unused:
        parts.append(f"{unused:,} of its weights have no place")
    parts.append("the optimizer goes on" if has_moments else "the optimizer starts anew")
    return f"starts from {source.name}: {', '.join(parts)}"
