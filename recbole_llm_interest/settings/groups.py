"""Every setting: name, type, range or values, default and meaning. The single source of code, files and help."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from recbole_llm_interest.settings.declaration import setting as _setting
from recbole_llm_interest.settings.types import Modality, Moment, RegisteredName, RepeatContext
from recbole_llm_interest.settings.warm_start import WarmStartSettings


@dataclass(frozen=True)
class DataSettings:
    """How data files are read; also applies to RecBole's models."""

    strict_data: bool = _setting(
        False, "whether a rejected row or an implausible time is an error instead of a warning", section="Data"
    )
    allow_pickle: bool = _setting(False, "whether RecBole may unpickle saved data sets, which can run any code in them")


@dataclass(frozen=True)
class ContentSettings:
    """Content of items and users: where it comes from and how it is encoded."""

    modalities: tuple[Modality, ...] = _setting(("text",), "modalities in use", section="Content")
    strict_content: bool = _setting(False, "whether missing or unusable content is an error instead of a warning")
    name_users: bool = _setting(False, "whether messages and logs show user IDs instead of salted hashes")
    item_text_fields: tuple[str, ...] | None = _setting(
        None, "columns that form an item's text, in this order; ~ for all columns except the ID"
    )
    user_text_fields: tuple[str, ...] | None = _setting(
        None, "columns that form a user's text, in this order; ~ for all columns except the ID"
    )
    item_text_template: str | None = _setting(
        None, "template of an item's text, such as {title} ({year}); takes precedence over item_text_fields"
    )
    user_text_template: str | None = _setting(
        None, "template of a user's text, such as {occupation}; takes precedence over user_text_fields"
    )

    event_text_fields: tuple[str, ...] | None = _setting(
        None, "columns that form an event's text, in this order; ~ for all of content/events.jsonl, and none of .inter"
    )
    event_text_template: str | None = _setting(
        None, "template of an event's text, such as {summary}: {review}; takes precedence over event_text_fields"
    )
    event_fields: tuple[str, ...] = _setting(
        (), "columns of an event with numbers or categories, such as a rating or a device, that are embedded"
    )
    context_fields: tuple[str, ...] = _setting(
        (), "columns of an event that are known before its item is chosen, such as a query; its prediction reads them"
    )
    context_text_template: str | None = _setting(
        None, "template of the text of context_fields, such as {query}; ~ for each column after its name"
    )

    shown_field: str | None = _setting(
        None,
        "column of an event with the items that were shown beside the chosen one, for ssl_shown_weight and ShownAUC",
    )

    text_encoder: str = _setting(
        "all-MiniLM-L6-v2",
        "text encoder: this one, `multilingual` or `smollm2` (extras), directory, GGUF file, hub name, or `hashing`",
        section="Encoders",
    )
    text_pooling: Literal["mean", "cls", "last"] | None = _setting(
        None, "pooling of token states into one vector; ~ for the pooling in the model's directory"
    )
    text_prompt: str = _setting("", "prefix of every text, which some models require")
    text_max_length: PositiveInt | None = _setting(None, "maximum tokens of a text; ~ for the model's maximum")
    text_truncate_dim: PositiveInt | None = _setting(None, "leading dimensions of text features to keep; ~ for all")
    text_adapter: str | None = _setting(
        None, "file of an adapter of the text encoder, by llm-interest adapt; ~ for none"
    )
    text_batch_size: PositiveInt = _setting(64, "texts in a batch of the encoder")
    image_encoder: str = _setting(
        "efficientnet_lite0",
        "image encoder: this one (extra), open_clip architecture, `hf-hub:` name, `local-dir:` path, or `color_hist`",
    )
    image_weights: str = _setting(
        "laion2b_s34b_b79k",
        "weights of an open_clip architecture: pretrained tag, checkpoint file, or `random` (untrained, for tests)",
    )
    image_adapter: str | None = _setting(None, "the same for the image encoder")
    image_batch_size: PositiveInt = _setting(32, "images in a batch of the encoder")
    audio_encoder: str = _setting(
        "librosa", "audio encoder: `aisfx` (extra), local directory or hub name of a transformers model, or `librosa`"
    )
    audio_seconds: float = _setting(30.0, "seconds of an audio file to encode, from its start", gt=0, le=3600)
    audio_adapter: str | None = _setting(None, "the same for the audio encoder")
    audio_batch_size: PositiveInt = _setting(8, "audio files in a batch of the encoder")
    encoder_precision: Literal["float32", "bfloat16", "float16"] = _setting(
        "float32", "floating-point type of pretrained encoders"
    )
    encoder_device: str | None = _setting(
        None, "device of pretrained encoders, such as cuda:1; ~ for a GPU, else the CPU"
    )
    download_weights: bool = _setting(False, "whether missing weights may be downloaded from the Hugging Face hub")

    item_text_features: str | None = _setting(
        None,
        "file of precomputed features of items' text, used instead of an encoder; relative to the data set's folder",
        section="Precomputed features",
    )
    item_image_features: str | None = _setting(None, "file of precomputed features of items' images")
    item_audio_features: str | None = _setting(None, "file of precomputed features of items' audio")
    user_text_features: str | None = _setting(None, "file of precomputed features of users' text")
    user_image_features: str | None = _setting(None, "file of precomputed features of users' images")
    user_audio_features: str | None = _setting(None, "file of precomputed features of users' audio")

    feature_cache: str | None = _setting(
        None, "folder of encoded features; ~ for `features` in checkpoint_dir", section="Frozen features"
    )
    feature_conditioning: RegisteredName = _setting(
        "shrinkage", "whitening or scaling of frozen features, fitted once before training"
    )
    conditioning_groups: PositiveInt = _setting(4, "blocks of columns that `group_zca` whitens separately")
    conditioning_size: PositiveInt = _setting(64, "principal components that `pca` keeps")
    content_control: Literal["none", "shuffled", "random"] = _setting(
        "none", "control experiment: permute the content among items, or replace it with random numbers"
    )
    controlled_content: tuple[
        Literal[
            "item_text",
            "item_image",
            "item_audio",
            "user_text",
            "user_image",
            "user_audio",
            "event_text",
            "event_image",
            "event_audio",
            "context_text",
            "context_image",
            "context_audio",
        ],
        ...,
    ] = _setting(("item_text", "item_image", "item_audio"), "content that content_control applies to")


@dataclass(frozen=True)
class ModelSettings:
    """Architecture, losses and learning-rate schedule."""

    embedding_size: PositiveInt = _setting(64, "size of item embeddings and of the interest", section="Model")
    hidden_size: PositiveInt = _setting(128, "size of the tracker's hidden state")
    tracker: RegisteredName = _setting("lstm", "sequence encoder of the history")
    num_layers: PositiveInt = _setting(1, "layers of the tracker; layers after the first are residual")
    num_heads: PositiveInt = _setting(2, "attention heads of the trackers `transformer`, `hstu` and `ligr`")
    block_dropout_prob: float = _setting(
        0.2, "dropout rate within the layers of every tracker but `lstm` and `gru`", ge=0, lt=1
    )
    attention_readout: bool = _setting(False, "whether the interest attends to all hidden states so far")
    last_item_skip: bool = _setting(False, "linear skip connection from the last item")
    event_window: NonNegativeInt = _setting(
        0, "events before each one that it sees, by a causal convolution, before the tracker reads it; 0 for none"
    )
    repeat_bias: bool = _setting(True, "learned score bias of items in the history, by the number of events since then")
    repeat_context: RepeatContext = _setting(
        False, "whether that bias also depends on the item, on the interest and on the user's repeats so far"
    )
    content_neighbours: NonNegativeInt = _setting(
        63, "nearest items by content, of each item in the history, that get a learned score bias; 0 for none"
    )
    event_neighbours: int = _setting(
        31,
        "items whose training events had content nearest to that of each event in the history, that get a learned "
        "score bias; 0 for none",
        ge=0,
        le=255,
    )
    transition_neighbours: NonNegativeInt = _setting(
        0,
        "nearest items by transitions, of each item in the history, that get a learned score bias; 0 for none",
    )
    transition_control: Literal["none", "shuffled"] = _setting(
        "none", "control experiment: permute the neighbours by transitions among items"
    )
    time_features: tuple[Literal["gap", "hour", "weekday"], ...] = _setting(
        (), "features of an event's time whose embeddings are added to the item embedding"
    )
    dropout_prob: float = _setting(0.3, "dropout rate of item embeddings and between layers", ge=0, lt=1)
    use_item_id: bool = _setting(True, "whether items have a learned ID embedding beside their content")
    id_init_std: PositiveFloat | None = _setting(
        None,
        "standard deviation of ID embeddings at the start, relative to which they learn; ~ for embedding_size ** -0.5",
    )
    id_min_events: PositiveInt = _setting(5, "training events that an item with content needs for an ID embedding")
    use_user_content: bool = _setting(
        True, "whether a user's content sets the tracker's initial state and contributes to the interest through a gate"
    )
    fusion: RegisteredName = _setting("gated", "fusion of modalities and ID into one item embedding")
    projection: RegisteredName = _setting("mlp", "projection of features to embedding_size")
    modality_dropout: float = _setting(0.1, "probability of masking an item's modality in a training step", ge=0, lt=1)

    score: Literal["cosine", "dot"] = _setting(
        "cosine", "similarity of the interest and an item embedding", section="Loss and training"
    )
    temperature: PositiveFloat = _setting(0.07, "divisor of cosine scores; smaller values sharpen the softmax")
    next_item_weight: NonNegativeFloat = _setting(
        1.0, "weight of the next-item loss over all items; 0 leaves other objectives alone, such as ssl_shown_weight"
    )
    target_horizon: PositiveInt = _setting(1, "number of next items to predict at each position")
    target_decay: float = _setting(0.5, "weight of a target relative to the target before it", gt=0, le=1)
    loss_candidates: PositiveInt | None = _setting(None, "sampled negatives a step; ~ for all items (exact)")
    loss_precision: Literal["float32", "bfloat16"] = _setting(
        "float32", "floating-point type of the matrix products in the next-item loss"
    )
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = _setting(
        "constant", "learning rate after the warm-up: constant, or linear or cosine decay to zero"
    )
    warmup_epochs: NonNegativeFloat = _setting(0.0, "epochs of linear learning-rate warm-up; may be fractional")

    ssl_walks_weight: NonNegativeFloat = _setting(
        4.0,
        "weight of predicting the next item of walks through items near by content; 0 disables an objective",
        section="Self-supervised objectives",
    )
    ssl_future_weight: NonNegativeFloat = _setting(
        0.0, "weight of the contrastive loss between the interest and the next items"
    )
    ssl_backward_weight: NonNegativeFloat = _setting(
        0.0, "weight of predicting the previous item in reversed histories"
    )
    ssl_views_weight: NonNegativeFloat = _setting(
        0.0, "weight of the contrastive loss between two augmented views of a history"
    )
    ssl_modalities_weight: NonNegativeFloat = _setting(
        0.0, "weight of the contrastive loss between an item's modalities"
    )
    ssl_masked_item_weight: NonNegativeFloat = _setting(0.0, "weight of predicting a masked item of the history")
    ssl_autoencoding_weight: NonNegativeFloat = _setting(0.0, "weight of reconstructing features from item embeddings")
    ssl_shown_weight: NonNegativeFloat = _setting(
        0.0, "weight of predicting the chosen item among those that were shown beside it, which shown_field names"
    )
    ssl_temperature: PositiveFloat = _setting(0.2, "temperature of the contrastive losses")
    ssl_horizon: PositiveInt = _setting(5, "number of next items that the interest is contrasted with")
    ssl_share: float = _setting(0.3, "fraction of a history that an augmented view changes", gt=0, lt=1)


@dataclass(frozen=True)
class EvaluationSettings:
    """How models are evaluated; also applies to RecBole's models."""

    eval_scores_mb: PositiveFloat = _setting(
        256, "maximum MiB of scores in an evaluation batch; larger batches are split", section="Evaluation"
    )
    seen_items: Literal["both", "kept", "filtered"] = _setting(
        "both", "whether the items that a user has seen are candidates; `both` reports both kinds of figures"
    )
    time_split: tuple[Moment, Moment] | None = _setting(
        None, "when validation and test begin, each a quantile of event times or an ISO date; ~ for eval_args"
    )
    test_targets: Literal["first", "last", "random", "successive", "all"] = _setting(
        "last", "which events of a user in the period are predicted, with time_split"
    )


@dataclass(frozen=True)
class AdaptationSettings:
    """How ``llm-interest adapt`` trains an adapter of an encoder."""

    adapt_method: RegisteredName = _setting(
        "lora", "kind of adapter that llm-interest adapt trains", section="Adaptation of encoders"
    )
    adapt_rank: PositiveInt = _setting(8, "rank of low-rank updates, width of bottlenecks, number of prefix tokens")
    adapt_layers: PositiveInt | None = _setting(
        3, "upper layers that are adapted; the states of those below are computed once; ~ for all layers"
    )
    adapt_collaborative_weight: NonNegativeFloat = _setting(
        1.0, "weight of contrasting items that follow each other in training histories"
    )
    adapt_recommendation_weight: NonNegativeFloat = _setting(
        0.0, "weight of the next-item loss, from the scores through an LSTM into the encoder"
    )
    adapt_simcse_weight: NonNegativeFloat = _setting(
        0.0, "weight of contrasting two encodings of the same content under dropout"
    )
    adapt_masked_language_weight: NonNegativeFloat = _setting(0.0, "weight of predicting masked words of items' texts")
    adapt_causal_language_weight: NonNegativeFloat = _setting(
        0.0, "weight of predicting each next word of items' texts, for causal models"
    )
    adapt_epochs: PositiveInt = _setting(3, "passes over the training histories")
    adapt_batch_size: PositiveInt = _setting(64, "histories in a step")
    adapt_negatives: NonNegativeInt = _setting(2000, "items that a step contrasts with, beside those of its histories")
    adapt_learning_rate: PositiveFloat = _setting(0.0005, "highest learning rate of adapters")
    adapt_evaluations: PositiveInt = _setting(2, "validations in an epoch")
    adapt_patience: PositiveInt = _setting(3, "validations without gain after which training ends")
    adapt_memory_mb: PositiveFloat = _setting(
        2048, "maximum MiB of remembered states of lower layers; if they need more, every step runs all layers"
    )


@dataclass(frozen=True)
class TrackingSettings:
    """Where the course of a training is written; also applies to RecBole's models."""

    tracking: tuple[RegisteredName, ...] = _setting(
        ("tensorboard",),
        "experiment trackers that get losses, metrics, settings and result of each run; RecBole's log_wandb adds wandb",
        section="Tracking",
    )


@dataclass(frozen=True)
class RecBoleSettings:
    """RecBole's own settings that have another default for this model. RecBole reads them, not this package."""

    learning_rate: float = _setting(
        0.003, "initial learning rate", section="RecBole's settings with another default for this model"
    )
    loss_type: Literal["CE"] = _setting("CE", "next-item cross-entropy at every position of a history")
    train_neg_sample_args: dict[str, Any] | None = _setting(None, "RecBole's negative sampling, which CE does not use")


#: the groups of the plug-in's own settings
ALL_SETTINGS: tuple[type[Any], ...] = (
    DataSettings,
    ContentSettings,
    ModelSettings,
    WarmStartSettings,
    EvaluationSettings,
    AdaptationSettings,
    TrackingSettings,
)
