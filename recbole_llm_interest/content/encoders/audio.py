"""Audio by a pretrained audio encoder: CLAP, wav2vec 2.0 and relatives, Whisper's encoder, AST."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.encoders.adapter_file import read_adapter
from recbole_llm_interest.content.encoders.network import NetworkEncoder
from recbole_llm_interest.content.encoders.weights import (
    check_missing_weights,
    combined_fingerprint,
    find_model,
    folder_fingerprint,
    require_packages,
)
from recbole_llm_interest.content.media.audio import AUDIO_PACKAGES, read_audio
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings

#: seconds of a model's input, by transformers' model_type; CLAP crops longer inputs at random
_WINDOW_SECONDS = {"clap": 10.0, "audio-spectrogram-transformer": 10.24, "whisper": 30.0}
_DEFAULT_WINDOW_SECONDS = 10.0
#: a shorter last window is left out, and a shorter file is padded
_MIN_WINDOW_SECONDS = 1.0

_Window = NDArray[np.float32]


class AudioEncoder(NetworkEncoder):
    """An audio model of transformers; the features are the mean over fixed windows of the file.

    The windows follow one another from the start, so features are deterministic. Code in a model's folder is never run.

    Args:
        name: a local directory, or a name on the hub.
        seconds: length of the audio to read, from its start.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: audio files to decode at once, and windows to encode at once.
        download: whether a model that is not on this machine may be downloaded from the hub.
        adapter: file of an adapter that was trained in this model; None for none.

    Raises:
        EncoderError: the model is not found, or the adapter does not belong to it.
    """

    one_input_per_content = False
    needs_weights: ClassVar[bool] = True
    packages: ClassVar[Mapping[str, str]] = {"transformers": "transformers"}

    def __init__(
        self,
        name: str,
        *,
        seconds: float = 30.0,
        precision: str = "float32",
        device: str | None = None,
        batch_size: int = 8,
        download: bool = False,
        adapter: str | None = None,
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.folder = find_model("audio", name, download)
        self.adapter = None if adapter is None else read_adapter(adapter, "audio", self.weights_fingerprint)

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> AudioEncoder:
        """Create the encoder with the settings ``audio_*`` and ``encoder_*``.

        Raises:
            EncoderError: the model is not found.
        """
        return cls(
            settings.audio_encoder,
            seconds=settings.audio_seconds,
            precision=settings.encoder_precision,
            device=settings.encoder_device,
            batch_size=settings.audio_batch_size,
            download=settings.download_weights,
            adapter=settings.audio_adapter,
        )

    @property
    def description(self) -> dict[str, Any]:
        """Name, seconds, precision and adapter."""
        described = {"name": self.name, "seconds": self.seconds, "precision": self.precision}
        return {**described, **self.adapter_description}

    @functools.cached_property
    def weights_fingerprint(self) -> str:
        """Hash of the model's files."""
        return folder_fingerprint(self.folder)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the model's files, the seconds, the precision and the adapter."""
        described = [self.weights_fingerprint, self.seconds, self.precision, *self.adapter_description.values()]
        return combined_fingerprint(described)

    def prepare(self) -> None:
        """Check that the packages are installed.

        Raises:
            EncoderError: one is not.
        """
        require_packages("audio", self.name, *self.packages.values(), *AUDIO_PACKAGES)

    def load(self, content: BinaryIO) -> list[_Window]:
        """Read an audio file into windows, each of shape ``[samples]``.

        Raises:
            ContentError: the file is not usable audio.
            EncoderError: the model cannot be loaded.
        """
        model, extractor = self._model
        rate = extractor.sampling_rate
        samples = read_audio(content, rate, self.seconds)
        size = round(_WINDOW_SECONDS.get(model.config.model_type, _DEFAULT_WINDOW_SECONDS) * rate)
        windows = [samples[start : start + size] for start in range(0, len(samples), size)]
        shortest = round(_MIN_WINDOW_SECONDS * rate)
        if len(windows) > 1 and len(windows[-1]) < shortest:
            windows.pop()
        windows[-1] = np.pad(windows[-1], (0, max(0, shortest - len(windows[-1]))))
        return windows

    def embed(self, batch: Sequence[list[_Window]]) -> Any:
        """Return the features of files as a tensor, ``[B, D]``, with gradients where they are recorded."""
        import torch

        windows = [(index, window) for index, file in enumerate(batch) for window in file]
        # A batch has windows of one length: nothing is padded, so features do not depend on the other files.
        windows.sort(key=lambda pair: len(pair[1]))
        features: list[list[Any]] = [[] for _ in batch]
        start = 0
        while start < len(windows):
            length = len(windows[start][1])
            same = [pair for pair in windows[start : start + self.batch_size] if len(pair[1]) == length]
            for (index, _), row in zip(same, self._embed_windows([window for _, window in same]), strict=True):
                features[index].append(row)
            start += len(same)
        return torch.stack([torch.stack(rows).mean(dim=0) for rows in features])

    def _embed_windows(self, windows: Sequence[_Window]) -> Any:
        """Return the features of windows of one length, ``[W, D]``."""
        model, extractor = self._model
        inputs = extractor(list(windows), sampling_rate=extractor.sampling_rate, return_tensors="pt")
        values = inputs["input_values"] if "input_values" in inputs else inputs["input_features"]
        parameter = next(model.parameters())
        pool = _POOLING.get(model.config.model_type, _pool_states)
        return pool(model, values.to(parameter.device, parameter.dtype), len(windows[0]), extractor)

    @property
    def network(self) -> Any:
        """The audio model or its tower of audio, which an adapter changes.

        Raises:
            EncoderError: it cannot be loaded.
        """
        return _tower(self._model[0])

    @network.setter
    def network(self, network: Any) -> None:
        model, extractor = self._model
        self._model = (_with_tower(model, network), extractor)

    @functools.cached_property
    def _model(self) -> tuple[Any, Any]:
        self.prepare()
        activate()  # transformers imports torchvision, which may need a patch
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        arguments = {"local_files_only": True, "trust_remote_code": False}
        try:
            extractor = AutoFeatureExtractor.from_pretrained(self.folder, **arguments)
            model, report = AutoModel.from_pretrained(
                self.folder, dtype=getattr(torch, self.precision), output_loading_info=True, **arguments
            )
            if self.adapter is not None:
                model = _with_tower(model, self.adapter.attach_to(_tower(model)))
            model = model.to(device).eval()
        except EncoderError:
            raise
        except Exception as error:  # transformers raises many exception types for a damaged folder
            reason = " ".join(str(error).split())
            raise EncoderError(f"audio encoder {self.name!r} in {self.folder} does not load: {reason}") from error
        check_missing_weights("audio", self.name, self.folder, report["missing_keys"])
        return model, extractor


def _tower(model: Any) -> Any:
    """Return the part of a model that reads audio."""
    name = _TOWERS.get(model.config.model_type)
    return getattr(model, name) if name else model


def _with_tower(model: Any, tower: Any) -> Any:
    """Return a model whose part that reads audio is ``tower``."""
    name = _TOWERS.get(model.config.model_type)
    if name is None:
        return tower
    setattr(model, name, tower)
    return model


def _pool_whisper(model: Any, inputs: Any, samples: int, extractor: Any) -> Any:
    """Average the encoder's states of the audio, ``[W, D]``, without those of the padding to 30 seconds."""
    states = model.get_encoder()(inputs).last_hidden_state
    length = -(-samples * model.config.max_source_positions // extractor.n_samples)
    return states[:, :length].mean(dim=1)


def _pool_clap(model: Any, inputs: Any, samples: int, extractor: Any) -> Any:
    """Return CLAP's own audio features, ``[W, D]``."""
    import torch

    # No window exceeds CLAP's input, although its extractor marks one window of a batch as longer, at random.
    is_longer = inputs.new_zeros(len(inputs), 1, dtype=torch.bool)
    return model.get_audio_features(input_features=inputs, is_longer=is_longer).pooler_output


def _pool_states(model: Any, inputs: Any, samples: int, extractor: Any) -> Any:
    """Return the pooler's output, or the mean of the states if the model has no pooler, ``[W, D]``."""
    output = model(inputs)
    pooled = getattr(output, "pooler_output", None)
    return output.last_hidden_state.mean(dim=1) if pooled is None else pooled


#: attribute of the part that reads audio, by transformers' model_type; other models are that part
_TOWERS = {"whisper": "encoder", "clap": "audio_model"}
#: pooling by transformers' model_type
_POOLING = {"whisper": _pool_whisper, "clap": _pool_clap}
