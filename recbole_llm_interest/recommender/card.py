"""The page of a model on the Hub: what it is, what it was trained on, what it reached, and what it rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

import recbole_llm_interest
from recbole_llm_interest.content.encoders.text import BUNDLED_NAME, bundled_model
from recbole_llm_interest.content.encoders.weights import cached_model
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.recommender.loading import Trained
from recbole_llm_interest.recommender.pretrained import published
from recbole_llm_interest.settings import Modality

_UNKNOWN = "unknown"
_TASK = "sequential-recommendation"
#: encoders that have no weights, whose licence would be asked for
_WITHOUT_WEIGHTS = ("hashing", "color_hist", "librosa")
_LOADING = """
```python
from recbole_llm_interest.recommender import Recommender

recommender = Recommender.from_pretrained("{name}")  # this folder, or its name on the Hub with download_weights=True
state = recommender.start(history=[{item}])
print(recommender.recommend(state, k=10))
```
"""


def model_card(trained: Trained, result: RunResult | None, license: str) -> str:  # noqa: A002
    """The card, Markdown with YAML before it.

    Args:
        trained: the model, and what it was trained on.
        result: of the run that trained it; None where that is not known.
        license: of the model, by the Hub's word for it.

    Raises:
        RequestError: nobody knows what it was trained on, or huggingface_hub is not installed.
    """
    origin = trained.origin
    if origin is None:
        raise RequestError("a model can be saved that was loaded from a checkpoint or a folder: this one was not")
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise RequestError("a model card needs huggingface_hub: pip install 'recbole_llm_interest[export]'") from error
    test = {} if result is None else result.test
    dataset = origin.dataset
    data = ModelCardData(
        library_name=recbole_llm_interest.__name__,
        license=license,
        tags=["recommendation", _TASK, "recbole", *_modalities(trained)],
        datasets=[dataset],
        metrics=list(test) or None,
        model_name="LLMInterest",
        eval_results=[
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
        or None,
    )
    counts = ", ".join(f"{count:,} {what}" for what, count in origin.counts.items())
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# LLMInterest on {dataset}",
        "A sequential recommender that knows items and users by their content and follows each user's interest through "
        "time. Loading it needs neither the data set nor a GPU; new items and users are added by what they are.",
        _LOADING.format(name="folder", item=json.dumps(trained.tokens[1], ensure_ascii=False)).strip(),
        "## Data",
        f"{dataset}: {counts}. Licence: {_UNKNOWN}.",
        "No user's id or content is in these files. `vocabulary.json` names the items, `texts.json` has their texts, "
        "which may be taken away: interests then go by items' names. Weights remember what they were trained on.",
        "## Test",
        _test(result),
        "## Encoders",
        _encoders(trained, origin.settings),
        "## Settings",
        _table(
            ["setting", "value"],
            [[f"`{key}`", f"`{value}`"] for key, value in sorted(published(origin.settings).items())],
        ),
        _made_by(result),
    ]
    return "\n\n".join(parts) + "\n"


def _modalities(trained: Trained) -> list[str]:
    fusions = (trained.model.item_encoder, trained.model.user_encoder)
    return sorted({name for fusion in fusions if fusion is not None for name in fusion.features})


def _test(result: RunResult | None) -> str:
    if result is None:
        return "No record of the run was given."
    rows = [[metric, f"{value:.4f}"] for metric, value in result.test.items()]
    asked = f"{result.test_events:,} test events, each ranked among {result.candidates}; seed {result.seed}"
    return f"{_table(['metric', 'value'], rows)}\n\n{asked}; best epoch by validation {result.valid_metric}."


def _encoders(trained: Trained, settings: Mapping[str, Any]) -> str:
    """By what each kind of content was encoded, and under which licence that is."""
    rows = []
    for kind, fusion in (("items", trained.model.item_encoder), ("users", trained.model.user_encoder)):
        for modality in [] if fusion is None else fusion.features:
            name, licence = _encoder(kind[:-1], modality, settings)  # type: ignore[arg-type]
            rows.append([f"{kind}' {modality}", name, licence])
    return _table(["content", "encoder", "licence"], rows) if rows else "None: items are known by their IDs alone."


def _encoder(kind: str, modality: Modality, settings: Mapping[str, Any]) -> tuple[str, str]:
    if settings.get(f"{kind}_{modality}_features"):
        return "features made elsewhere", _UNKNOWN
    name = settings[f"{modality}_encoder"]
    if name in _WITHOUT_WEIGHTS:
        return name, "no weights"
    if modality == "image" and "/" not in name:
        return f"{name} ({settings['image_weights']})", _UNKNOWN
    return Path(name).name if Path(name).is_dir() else name, _licence(name)


def _licence(encoder: str) -> str:
    """What the card of an encoder says, where that is on this machine."""
    from huggingface_hub import ModelCard

    is_bundled = encoder.removeprefix("sentence-transformers/") == BUNDLED_NAME
    folder = bundled_model() if is_bundled else Path(encoder) if Path(encoder).is_dir() else cached_model(encoder)
    if folder is None or not (folder / "README.md").is_file():
        return _UNKNOWN
    try:
        return str(ModelCard.load(folder / "README.md").data.get("license") or _UNKNOWN)
    except Exception:  # the card is somebody else's, and may hold anything
        return _UNKNOWN


def _made_by(result: RunResult | None) -> str:
    version = recbole_llm_interest.__version__
    if result is None:
        return f"Written by recbole_llm_interest {version}."
    made = result.environment_info
    return (
        f"Trained by recbole_llm_interest {made.get('version', _UNKNOWN)}, commit {made.get('commit') or _UNKNOWN}, "
        f"torch {made.get('torch', _UNKNOWN)}; {result.epochs} epochs, {result.parameters:,} trainable parameters."
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)
