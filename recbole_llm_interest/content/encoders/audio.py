"""Sound through a pretrained audio encoder: CLAP, wav2vec 2.0 and its kin, Whisper's encoder, AST."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.weights import (
    combined_fingerprint,
    find_model,
    folder_fingerprint,
    refuse_random_weights,
    require_packages,
)
from recbole_llm_interest.content.media.audio import read_sound
from recbole_llm_interest.errors import EncoderError

#: What a model takes at once, in seconds, by transformers' model_type. CLAP cuts what is longer at random.
_WINDOW_SECONDS = {"clap": 10.0, "audio-spectrogram-transformer": 10.24, "whisper": 30.0}
_OTHER_WINDOW_SECONDS = 10.0
#: a remainder behind the last whole window is heard if it is at least this long
_SHORTEST_WINDOW_SECONDS = 1.0


class AudioEncoder:
    """An audio model of transformers, over fixed windows of the sound, averaged.

    Windows lie one behind the other from the start, so the same sound always gives the same features. Code that
    comes with a model is never run.

    Args:
        name: a local directory or a hub name.
        seconds: how much of a sound is heard.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: sounds that are decoded at once, and windows that are encoded at once.
        download: whether the hub may be asked for a model that is not on this machine.

    Raises:
        EncoderError: no such model can be found.
    """

    def __init__(
        self,
        name: str,
        *,
        seconds: float = 30.0,
        precision: str = "float32",
        device: str | None = None,
        batch_size: int = 8,
        download: bool = False,
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.folder = find_model("audio", name, download)

    @property
    def description(self) -> dict[str, Any]:
        return {"name": self.name, "seconds": self.seconds, "precision": self.precision}

    @functools.cached_property
    def fingerprint(self) -> str:
        return combined_fingerprint([folder_fingerprint(self.folder), self.seconds, self.precision])

    def prepare(self) -> None:
        require_packages("audio", self.name, "transformers", "soundfile", "soxr")

    def load(self, content: BinaryIO) -> list[NDArray[np.float32]]:
        """The sound's windows, each of shape ``[samples]``."""
        model, extractor = self._model
        rate = extractor.sampling_rate
        sound = read_sound(content, rate, self.seconds)
        window = round(_WINDOW_SECONDS.get(model.config.model_type, _OTHER_WINDOW_SECONDS) * rate)
        windows = [sound[start : start + window] for start in range(0, len(sound), window)]
        shortest = round(_SHORTEST_WINDOW_SECONDS * rate)
        if len(windows) > 1 and len(windows[-1]) < shortest:
            windows.pop()
        windows[-1] = np.pad(windows[-1], (0, max(0, shortest - len(windows[-1]))))
        return windows

    def encode(self, batch: Sequence[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
        windows = [(index, window) for index, sound in enumerate(batch) for window in sound]
        # Equal lengths share a batch: nothing is padded, so nothing depends on what a sound's neighbours are.
        windows.sort(key=lambda pair: len(pair[1]))
        features: list[list[NDArray[np.float32]]] = [[] for _ in batch]
        start = 0
        while start < len(windows):
            length = len(windows[start][1])
            same = [pair for pair in windows[start : start + self.batch_size] if len(pair[1]) == length]
            for (index, _), row in zip(same, self._encode_windows([window for _, window in same]), strict=True):
                features[index].append(row)
            start += len(same)
        return np.stack([np.mean(rows, axis=0) for rows in features])

    def _encode_windows(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Features of windows of one length, ``[len(windows), D]``."""
        import torch

        model, extractor = self._model
        inputs = extractor(list(windows), sampling_rate=extractor.sampling_rate, return_tensors="pt")
        parameter = next(model.parameters())
        kind = model.config.model_type
        with torch.inference_mode():
            if kind == "whisper":
                states = model.get_encoder()(inputs["input_features"].to(parameter.device, parameter.dtype))
                # Whisper pads to 30 seconds: of its states, only those of the sound are averaged.
                heard = -(-len(windows[0]) * model.config.max_source_positions // extractor.n_samples)
                pooled = states.last_hidden_state[:, :heard].mean(dim=1)
            elif kind == "clap":
                features = inputs["input_features"].to(parameter.device, parameter.dtype)
                # No window is longer than what it takes; its extractor marks one of a batch by chance all the same.
                is_longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=parameter.device)
                pooled = model.get_audio_features(input_features=features, is_longer=is_longer).pooler_output
            else:
                values = inputs.get("input_values", inputs.get("input_features"))
                output = model(values.to(parameter.device, parameter.dtype))
                pooled = getattr(output, "pooler_output", None)
                pooled = output.last_hidden_state.mean(dim=1) if pooled is None else pooled
        return pooled.float().cpu().numpy()

    @functools.cached_property
    def _model(self) -> tuple[Any, Any]:
        self.prepare()
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        arguments = {"local_files_only": True, "trust_remote_code": False}
        try:
            extractor = AutoFeatureExtractor.from_pretrained(self.folder, **arguments)
            model, found = AutoModel.from_pretrained(
                self.folder, dtype=getattr(torch, self.precision), output_loading_info=True, **arguments
            )
            model = model.to(device).eval()
        except Exception as error:  # transformers raises a dozen kinds for a damaged folder
            reason = " ".join(str(error).split())
            raise EncoderError(f"audio encoder {self.name!r} in {self.folder} does not load: {reason}") from error
        refuse_random_weights("audio", self.name, self.folder, found["missing_keys"])
        return model, extractor
