"""The model card: data, test results, encoders and settings of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

import recbole_llm_interest
from recbole_llm_interest.content.encoders import encoder_class
from recbole_llm_interest.content.encoders.bundled import BUNDLED
from recbole_llm_interest.content.encoders.image import ImageEncoder
from recbole_llm_interest.content.encoders.weights import cached_model
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.evaluation.results import UNKNOWN_DATA, RunResult, fingerprint
from recbole_llm_interest.io.escaping import json_text, markdown_cell, markdown_code, markdown_line
from recbole_llm_interest.recommender.trained import Origin, Trained
from recbole_llm_interest.training.model_folder.format import published

_UNKNOWN = "unknown"
_TASK = "sequential-recommendation"
_LOADING = """
```python
from recbole_llm_interest.recommender import Recommender

recommender = Recommender.from_pretrained("{name}")  # this folder, or its name on the Hub with download_weights=True
state = recommender.start(history=[{item}])
print(recommender.recommend(state, k=10))
```
"""


def model_card(trained: Trained, result: RunResult | None, license: str) -> str:  # noqa: A002
    """The model card, Markdown with YAML front matter.

    Args:
        trained: the model.
        result: of the training run; None if it is unknown.
        license: of the model, by the Hub's identifier.

    Raises:
        RequestError: it is unknown what the model was trained on, or huggingface_hub is not installed.
    """
    origin = trained.origin
    if origin is None:
        raise RequestError("only a model that was loaded from a checkpoint or a folder can be saved")
    counts = ", ".join(f"{count:,} {kind}" for kind, count in origin.counts.items())
    settings = [[markdown_code(key), markdown_code(value)] for key, value in sorted(published(origin.settings).items())]
    parts = [
        f"---\n{_front_matter(trained, origin.dataset, result, license)}\n---",
        f"# LLMInterest on {markdown_cell(origin.dataset)}",
        "A sequential recommender that represents items and users by their content and tracks each user's interest "
        "over time. Loading it needs neither the data set nor a GPU; new items and users need no training.",
        _LOADING.format(name="folder", item=json_text(trained.tokens[1])).strip(),
        "## Data",
        f"{markdown_line(origin.dataset)}: {counts}{_data(origin, result)}. License: {_UNKNOWN}.",
        "These files have no ids or content of users. `vocabulary.json` has the items' ids, `texts.json` their "
        "texts and categories, which may be deleted: interests are then named by items. Weights, and the "
        "means of what events of each item had as content, if the model reads that, may still reveal training data.",
        "## Test",
        _test(result),
        "## Encoders",
        _encoders(trained, origin.settings),
        "## Settings",
        _table(["setting", "value"], settings),
        _provenance(result),
    ]
    return "\n\n".join(parts) + "\n"


def _data(origin: Origin, result: RunResult | None) -> str:
    known = fingerprint(origin.data if result is None else result.data)
    return "" if known == UNKNOWN_DATA else f"; data {known}"


def _front_matter(trained: Trained, dataset: str, result: RunResult | None, license: str) -> str:  # noqa: A002
    """The metadata that the Hub reads, as YAML."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise RequestError("a model card needs huggingface_hub: pip install 'recbole_llm_interest[export]'") from error
    test = {} if result is None else result.test
    results = [
        EvalResult(
            task_type=_TASK,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in test.items()
    ]
    return ModelCardData(
        library_name=recbole_llm_interest.__name__,
        license=license,
        tags=["recommendation", _TASK, "recbole", *_modalities(trained)],
        datasets=[dataset],
        metrics=list(test) or None,
        model_name="LLMInterest",
        eval_results=results or None,
    ).to_yaml()


def _modalities(trained: Trained) -> list[str]:
    encoders = (trained.model.item_encoder, trained.model.user_encoder)
    return sorted({name for encoder in encoders if encoder is not None for name in encoder.features})


def _test(result: RunResult | None) -> str:
    if result is None:
        return "The result of the run is unknown."
    rows = [[markdown_cell(metric), f"{value:.4f}"] for metric, value in result.test.items()]
    protocol = (
        f"{result.test_events:,} test events, each ranked among {result.candidates}; seed {result.seed}; best epoch by "
        f"validation {result.valid_metric}."
    )
    return f"{_table(['metric', 'value'], rows)}\n\n{markdown_line(protocol)}"


def _encoders(trained: Trained, settings: Mapping[str, Any]) -> str:
    """A table of the encoder of each kind of content, and its license."""
    rows = [
        [f"{kind}s' {modality}", *map(markdown_cell, _encoder(kind, modality, settings))]
        for kind, encoder in (("item", trained.model.item_encoder), ("user", trained.model.user_encoder))
        for modality in ([] if encoder is None else encoder.features)
    ]
    return _table(["content", "encoder", "license"], rows) if rows else "None: the model has no content, only IDs."


def _encoder(kind: str, modality: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Name and license of the encoder of a modality."""
    if settings.get(f"{kind}_{modality}_features"):
        return "precomputed features", _UNKNOWN
    name = settings[f"{modality}_encoder"]
    if not encoder_class(modality, name).needs_weights:
        return name, "no weights"
    if encoder_class(modality, name) is ImageEncoder and "/" not in name:
        return f"{name} ({settings['image_weights']})", _UNKNOWN
    return Path(name).name if Path(name).is_dir() else name, _license(name)


def _license(encoder: str) -> str:
    """The license in the card of an encoder, if that is on this machine."""
    from huggingface_hub import ModelCard

    licenses = {weights.name: weights.license for weights in BUNDLED}
    if (bundled := licenses.get(encoder.removeprefix("sentence-transformers/"))) is not None:
        return bundled
    folder = Path(encoder) if Path(encoder).is_dir() else cached_model(encoder)
    if folder is None or not (folder / "README.md").is_file():
        return _UNKNOWN
    try:
        return str(ModelCard.load(folder / "README.md").data.get("license") or _UNKNOWN)
    except Exception:  # a third party's card, which may be malformed
        return _UNKNOWN


def _provenance(result: RunResult | None) -> str:
    """The version that wrote the card or, if the run is known, the versions that trained the model."""
    if result is None:
        return f"Written by recbole_llm_interest {recbole_llm_interest.__version__}."
    version, commit, torch = (result.environment_info.get(key) or _UNKNOWN for key in ("version", "commit", "torch"))
    return markdown_line(
        f"Trained by recbole_llm_interest {version}, commit {commit}, torch {torch}; {result.epochs} epochs, "
        f"{result.parameters:,} trainable parameters."
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)
