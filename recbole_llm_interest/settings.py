"""The plug-in's settings: the one place where they are named, given a default and a meaning, and checked.

They are flat keys of RecBole's configuration, so YAML files, ``config_dict`` and the command line all set them.
``properties/model/LLMInterest.yaml`` holds the same defaults for RecBole to show; a test keeps the two equal.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from recbole_llm_interest.errors import SettingsError

_T = TypeVar("_T")


class Registry(Generic[_T]):
    """Implementations of one kind by name: what a setting's values stand for.

    An implementation is one class in one file and one line that registers it, from outside the package, too:

    >>> from recbole_llm_interest.settings import Registry
    >>> greetings = Registry("greeting")
    >>> greetings.register("short")(lambda: "hi")()
    'hi'
    >>> greetings["short"](), list(greetings)
    ('hi', ['short'])

    Args:
        kind: what its members are, in words, as errors name it.
        setting: the setting whose values are its names, which ``read_settings`` then checks; None for no such setting.
    """

    def __init__(self, kind: str, setting: str | None = None) -> None:
        self.kind = kind
        self._members: dict[str, _T | str] = {}
        if setting is not None:
            REGISTRIES[setting] = self

    def register(self, name: str) -> Callable[[_T], _T]:
        """A decorator that registers a class or function under ``name``."""

        def decorator(member: _T) -> _T:
            self._members[name] = member
            return member

        return decorator

    def register_lazy(self, name: str, target: str) -> None:
        """Register ``module:attribute``, which is imported when it is asked for: its libraries may be missing."""
        self._members[name] = target

    def __getitem__(self, name: str) -> _T:
        """The member of this name.

        Raises:
            SettingsError: there is none; it lists those that there are.
        """
        if name not in self._members:
            nearest = difflib.get_close_matches(name, self._members, n=1, cutoff=0.6)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise SettingsError(f"unknown {self.kind} {name!r}: {hint}known are {', '.join(self) or 'none'}")
        member = self._members[name]
        if isinstance(member, str):
            module, _, attribute = member.partition(":")
            member = self._members[name] = getattr(importlib.import_module(module), attribute)
        return cast(_T, member)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)


#: the registries whose names are the values of a setting, by the setting
REGISTRIES: dict[str, Registry[Any]] = {}

_Settings = TypeVar("_Settings", bound="DataSettings | ContentSettings | ModelSettings | EvaluationSettings")


#: the kinds of content, in the order in which tables and reports name them
Modality = Literal["text", "image", "audio"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True)
class DataSettings:
    """What is let in from disk; these hold for RecBole's models, too."""

    strict_data: bool = Field(
        False, description="a row that is refused, or a time that looks wrong, is an error and not a warning"
    )
    allow_pickle: bool = Field(
        False, description="RecBole may read data sets and loaders that it saved, and with them any code in these files"
    )


@dataclass(frozen=True)
class ContentSettings:
    """What items and users are: where their content comes from and how it is encoded."""

    modalities: tuple[Modality, ...] = Field(("text",), description="the kinds of content in use: text, image, audio")
    strict_content: bool = Field(
        False, description="content that is missing, or cannot be used, is an error and not a warning"
    )

    name_users: bool = Field(
        False, description="messages and logs name users by their ids, and not by hashes that nobody can turn back"
    )

    item_text_fields: tuple[str, ...] | None = Field(
        None, description="columns that make up an item's text, in order; ~ for every column but the id"
    )
    user_text_fields: tuple[str, ...] | None = Field(
        None, description="columns that make up a user's text, in order; ~ for every column but the id"
    )
    item_text_template: str | None = Field(
        None, description="an item's text as a sentence with {column}s in it; goes before item_text_fields"
    )
    user_text_template: str | None = Field(
        None, description="a user's text as a sentence with {column}s in it; goes before user_text_fields"
    )

    text_encoder: str = Field(
        "all-MiniLM-L6-v2",
        description="text model: the bundled one's name, a local directory, a hub name, or `hashing` (no weights)",
    )
    text_pooling: Literal["mean", "cls", "last"] | None = Field(
        None, description="how token states become one vector; ~ for what the model's own folder states"
    )
    text_prompt: str = Field("", description="words put before every text, as some models want")
    text_max_length: int | None = Field(None, gt=0, description="tokens of a text that are read; ~ for the model's own")
    text_truncate_dim: int | None = Field(None, gt=0, description="leading dimensions that are kept; ~ for all")
    text_batch_size: int = Field(64, gt=0, description="texts that are encoded at once")

    image_encoder: str = Field(
        "ViT-B-32",
        description="open_clip architecture, `hf-hub:` name, `local-dir:` path, or `color_hist` (no weights)",
    )
    image_weights: str = Field(
        "laion2b_s34b_b79k",
        description="for an architecture: pretrained tag, checkpoint file, or `random` (untrained, for tests)",
    )
    image_batch_size: int = Field(32, gt=0, description="images that are encoded at once")

    audio_encoder: str = Field(
        "librosa",
        description="audio model of transformers, by local directory or hub name, or `librosa` (no weights)",
    )
    audio_seconds: float = Field(30.0, gt=0, le=3600, description="seconds of a sound that are heard, from its start")
    audio_batch_size: int = Field(8, gt=0, description="sounds that are encoded at once")

    encoder_precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="number format in which pretrained encoders compute"
    )
    encoder_device: str | None = Field(
        None, description="device of pretrained encoders, as cuda:1; ~ for a GPU if there is one"
    )

    download_weights: bool = Field(
        False, description="models that are named and not on this machine may be fetched from the Hugging Face hub"
    )

    item_text_features: str | None = Field(None, description="file of features made elsewhere, instead of encoding")
    item_image_features: str | None = Field(None, description="the same for items' images")
    item_audio_features: str | None = Field(None, description="the same for items' sound")
    user_text_features: str | None = Field(None, description="the same for users' text")
    user_image_features: str | None = Field(None, description="the same for users' images")
    user_audio_features: str | None = Field(None, description="the same for users' sound")

    feature_cache: str | None = Field(
        None, description="folder of encoded features; ~ for `features` below checkpoint_dir"
    )
    feature_conditioning: Literal["none", "standardize", "pca", "zca", "group_zca", "shrinkage"] = Field(
        "shrinkage", description="how frozen features are conditioned, fitted once on the table"
    )
    conditioning_groups: int = Field(4, gt=0, description="blocks of columns that group_zca whitens by themselves")
    conditioning_size: int = Field(64, gt=0, description="principal components that pca keeps")
    content_control: Literal["none", "shuffled", "random"] = Field(
        "none",
        description="a test of whether content matters: each item gets another's content, or random numbers",
    )
    controlled_content: tuple[
        Literal["item_text", "item_image", "item_audio", "user_text", "user_image", "user_audio"], ...
    ] = Field(("item_text", "item_image", "item_audio"), description="what content_control is about")


@dataclass(frozen=True)
class ModelSettings:
    """How interest is modelled and trained."""

    embedding_size: int = Field(64, gt=0, description="width of the space in which items and interest are compared")
    hidden_size: int = Field(128, gt=0, description="width of the tracker's state")
    tracker: Literal["lstm", "gru", "transformer"] = Field("lstm", description="what reads the history")
    num_layers: int = Field(1, gt=0, description="layers of the tracker; further ones add to what is below them")
    num_heads: int = Field(2, gt=0, description="attention heads of a transformer")
    attention_readout: bool = Field(False, description="let the interest attend to all states so far")
    last_item_skip: bool = Field(False, description="let the last item speak for itself, past the tracker")
    repeat_bias: bool = Field(
        True, description="learn what it says of an item that the history holds it, by how long ago"
    )
    content_neighbours: int = Field(
        63, ge=0, description="nearest items by content that an event also speaks for, as far as training bears it out"
    )
    time_features: tuple[Literal["gap", "hour", "weekday"], ...] = Field(
        (), description="what of an event's time stands beside its item"
    )
    dropout_prob: float = Field(0.3, ge=0, lt=1, description="dropout on items and between layers")
    use_item_id: bool = Field(True, description="add a learnt ID embedding to an item's content")
    id_min_events: int = Field(
        5, gt=0, description="training events from which an item with content has an ID; rarer ones go by content alone"
    )
    use_user_content: bool = Field(
        True, description="let a user's content set the tracker's first state and stand in its gate"
    )
    fusion: Literal["gated", "attention", "concat", "late"] = Field(
        "gated", description="how modalities and ID become one representation"
    )
    projection: Literal["mlp", "linear"] = Field("mlp", description="how features reach the common space")
    modality_dropout: float = Field(
        0.1, ge=0, lt=1, description="share of items whose modality is taken away, anew in each training step"
    )
    score: Literal["cosine", "dot"] = Field("cosine", description="how interest and items are compared")
    temperature: float = Field(0.07, gt=0, description="divides the cosine scores; smaller is sharper")
    target_horizon: int = Field(1, gt=0, description="next events that the interest after each event is to predict")
    target_decay: float = Field(0.5, gt=0, le=1, description="how much an event counts against the one before it")
    loss_candidates: int | None = Field(
        None, gt=0, description="items drawn as the next item's rivals in each step; ~ for all, which is exact"
    )
    loss_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of the next-item loss' matrix products"
    )
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="what the learning rate does after the warm-up: stay, or fall to zero"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="epochs, or parts of one, over which the learning rate rises")
    ssl_future_weight: float = Field(
        0.1, ge=0, description="weight of the contrast of interest and the next events; 0 turns it off, as below"
    )
    ssl_backward_weight: float = Field(
        0.0, ge=0, description="weight of naming the item before, of histories read from their end"
    )
    ssl_views_weight: float = Field(0.0, ge=0, description="weight of the contrast of two changed views of a history")
    ssl_modalities_weight: float = Field(0.0, ge=0, description="weight of the contrast of an item's modalities")
    ssl_masked_item_weight: float = Field(0.0, ge=0, description="weight of naming an item masked in the history")
    ssl_autoencoding_weight: float = Field(0.0, ge=0, description="weight of reading features out of a representation")
    ssl_temperature: float = Field(0.2, gt=0, description="temperature of the contrasts")
    ssl_horizon: int = Field(5, gt=0, description="next events that the interest is contrasted with")
    ssl_share: float = Field(0.3, gt=0, lt=1, description="share of a history that a view changes")


@dataclass(frozen=True)
class EvaluationSettings:
    """How models are evaluated; stock models too."""

    eval_scores_mb: float = Field(
        256, gt=0, description="MiB of scores that an evaluation holds at once: larger batches are cut, of any model"
    )


#: every group, in the order of the settings table
ALL_SETTINGS: tuple[type[Any], ...] = (DataSettings, ContentSettings, ModelSettings, EvaluationSettings)


def settings_keys() -> list[str]:
    """The plug-in's own keys, in the order of the settings table."""
    return [field.name for settings in ALL_SETTINGS for field in dataclasses.fields(settings)]


def read_settings(settings: type[_Settings], config: Mapping[str, Any] | Any) -> _Settings:
    """Read ``settings`` from RecBole's ``config``, where a missing key means the default.

    Raises:
        SettingsError: a key that the user gave is unknown, or a value is of the wrong type or out of range.
    """
    check_keys(getattr(config, "external_config_dict", {}))
    names = [field.name for field in dataclasses.fields(settings)]
    values = {name: config[name] for name in names if name in config}
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        reason = first["msg"]
        if first["type"] == "tuple_type" and values[name] is not None:
            words = ",".join(repr(word.strip()) for word in str(values[name]).split(","))
            reason = f'it is a list, written "--{name}=[{words}]" on the command line, {name}: [{words}] in YAML'
        raise SettingsError(f"{name}={values[name]!r} is not a value of this setting: {reason}") from error


def check_keys(keys: Iterable[str]) -> None:
    """Refuse a key that neither RecBole nor the plug-in has.

    Raises:
        SettingsError: it names the key and the nearest known one. RecBole alone would ignore the key silently.
    """
    known = {*settings_keys(), *recbole_keys()}
    for key in keys:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f": did you mean {nearest[0]!r}?" if nearest else "; the README lists the settings"
            raise SettingsError(f"unknown setting {key!r}{hint}")


@functools.cache
def recbole_keys() -> frozenset[str]:
    """Every key that RecBole has for any model: those of its own settings files, and those that its code asks for."""
    import recbole

    folder = Path(recbole.__file__).parent
    top_level_key = re.compile(r"^(\w+)\s*:", re.MULTILINE)
    asked_for = re.compile(r"""config\[["'](\w+)["']\]""")
    in_files = [top_level_key.findall(file.read_text("utf-8")) for file in (folder / "properties").rglob("*.yaml")]
    in_code = [asked_for.findall(file.read_text("utf-8")) for file in folder.rglob("*.py")]
    return frozenset({"config_files", "nproc", "ip", "port", "offset"}.union(*in_files, *in_code))


_PACKAGE = Path(__file__).parent


# In a wheel the folder lies inside the package, in a checkout beside it.
PROPERTIES = next(path for path in (_PACKAGE / "properties", _PACKAGE.parent / "properties") if path.is_dir())
