"""Adapts an encoder to a data set: reads events and content, trains, writes the adapter and what was found."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.utils import init_seed
from tqdm import tqdm

from recbole_llm_interest.adaptation.events import AdaptationEvents, read_adaptation_events
from recbole_llm_interest.adaptation.training import Adaptation, AdaptationResult, check_adaptable, state_path
from recbole_llm_interest.content.blobs import Blob
from recbole_llm_interest.content.dataset_files import catalogue_from_config
from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.errors import ContentError, DataError, EncoderError
from recbole_llm_interest.io.files import write_text
from recbole_llm_interest.io.manifest import record_run
from recbole_llm_interest.settings import AdaptationSettings, ContentSettings, Modality, read_settings
from recbole_llm_interest.training.run_metadata import digest

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapted:
    """An adapter that was written.

    Attributes:
        adapter: its file.
        report: file of the figures, JSON.
        result: the figures.
    """

    adapter: Path
    report: Path
    result: AdaptationResult


def adapt(config: Config, modality: Modality, output: Path) -> Adapted:
    """Train an adapter of a modality's encoder on the items of a data set.

    It learns from training events. Validation events decide the best step; test events are split off and not used.
    Language modelling learns from the texts of all items, which are known whoever chooses them.

    Args:
        config: RecBole's configuration.
        modality: text, image or audio.
        output: file of the adapter.

    Raises:
        EncoderError: the encoder cannot be loaded or adapted, or already has an adapter.
        DataError: the data set has no content of the modality, or no history to learn from.
        LLMInterestError: as for ``Adaptation.run``.
    """
    settings, content_settings = read_settings(AdaptationSettings, config), read_settings(ContentSettings, config)
    encoder = _adaptable_encoder(modality, content_settings, settings)
    init_seed(config["seed"], config["reproducibility"])
    events = read_adaptation_events(config)
    catalogue = catalogue_from_config(config, "item", content_settings)
    contents, of_contents = load_contents(catalogue.blobs[modality], events.tokens, encoder, modality)
    events = with_content(events, contents)
    record_run(config, "checkpoint", [output, state_path(output)])
    identity = digest(
        [asdict(settings), encoder.fingerprint, config["seed"], modality, *_of_events(events), of_contents]
    )
    adaptation = Adaptation(encoder, modality, contents, events, settings, config["seed"], output, identity)
    described = {"dataset": config["dataset"], "encoder": encoder.description, "settings": asdict(settings)}
    sizes = {
        "items": len(contents),
        "histories": len(events.histories),
        "validation_events": len(events.validation),
    }
    result = adaptation.run()
    report = output.with_suffix(".json")
    text = json.dumps({**described, "seed": config["seed"], **sizes, **asdict(result)}, indent=1)
    write_text(report, text, "give another --output")
    return Adapted(output, report, result)


def _of_events(events: AdaptationEvents) -> list[Any]:
    """What a resumed training has to agree in: the digest of training events, and the validation events."""
    return [events.digest, [(history.tolist(), target) for history, target in events.validation]]


def _adaptable_encoder(modality: Modality, settings: ContentSettings, adaptation: AdaptationSettings) -> Any:
    """Create the encoder of a modality.

    Raises:
        EncoderError: it has no network that such an adapter can be attached to, or already has an adapter.
        SettingsError: as for ``check_adaptable``.
    """
    encoder: Any = create_encoder(modality, settings)
    if not hasattr(type(encoder), "network"):
        name = getattr(settings, f"{modality}_encoder")
        raise EncoderError(f"the {modality} encoder {name!r} cannot be adapted: {modality}_encoder names another")
    if encoder.adapter is not None:
        raise EncoderError(f"{modality}_adapter is set: an adapter is trained in the encoder without one; leave it out")
    encoder.prepare()
    check_adaptable(encoder, adaptation)
    return encoder


def load_contents(
    blobs: Mapping[str, Blob], tokens: Any, encoder: Any, modality: Modality
) -> tuple[dict[int, Any], str]:
    """Load the content of items as the encoder needs it, by row of ``tokens``; returns it with its digest.

    Raises:
        DataError: no item has content that can be used.
    """
    contents: dict[int, Any] = {}
    of_contents = hashlib.sha256()
    unusable = 0
    rows = [row for row in range(1, len(tokens)) if tokens[row] in blobs]
    for row in tqdm(rows, f"Reading items' {modality}", unit="item", delay=2):
        blob = blobs[tokens[row]]
        try:
            key = blob.key()
            with blob.open(key) as content:
                contents[row] = encoder.load(content)
            of_contents.update(key)
        except ContentError:
            unusable += 1
    if unusable:
        _logger.warning("%d items have %s that cannot be used; llm-interest encode lists them", unusable, modality)
    if len(contents) < 2:
        raise DataError(f"fewer than two items of the interactions have {modality}: there is nothing to adapt to")
    return contents, of_contents.hexdigest()


def with_content(events: AdaptationEvents, contents: Mapping[int, Any]) -> AdaptationEvents:
    """Return the events of items that have content.

    Raises:
        DataError: no history has two of them, or no validation event is left.
    """
    has_content = np.zeros(len(events.tokens), dtype=bool)
    has_content[list(contents)] = True
    histories = [history[has_content[history]] for history in events.histories]
    histories = [history for history in histories if len(history) > 1]
    if not histories:
        raise DataError("no training history has two items with content: there is nothing to learn from")
    pairs = [(history[has_content[history]], target) for history, target in events.validation if has_content[target]]
    pairs = [pair for pair in pairs if len(pair[0])]
    if not pairs:
        raise DataError(
            "no validation event has an item with content and a history of such, so the best step cannot be chosen: "
            "set eval_args to a split that has validation events"
        )
    return replace(events, histories=histories, validation=pairs)
