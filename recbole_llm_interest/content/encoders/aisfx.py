"""Audio by aiSFX, a network trained on libraries of sound effects (Ma and Lerch, ISMIR 2022), without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.bundled import AISFX
from recbole_llm_interest.content.encoders.network import BundledNetworkEncoder
from recbole_llm_interest.content.media.audio import read_audio
from recbole_llm_interest.settings import ContentSettings

_SAMPLING_RATE = 44_100
_WINDOW, _HOP, _BANDS = 2048, 1024, 96
#: frames of an input of the network, about 2.3 seconds, and from one input to the next
_BLOCK, _STEP = 100, 50
#: the highest value of the spectrograms that the network was trained on
_HIGHEST = 9.457798957824707

#: the inputs of one file, ``[blocks, 100, 96]``
_Blocks = NDArray[np.float32]


class AisfxEncoder(BundledNetworkEncoder):
    """``audio_encoder=aisfx``: the network's embeddings of overlapping blocks of 2.3 seconds, averaged, ``[512]``.

    Spectrograms are computed by librosa with the values of the network's authors.

    Args:
        seconds: length of the audio to read, from its start.
        arguments: of ``BundledNetworkEncoder``.
    """

    one_input_per_content = False
    weights = AISFX
    extra = "audio"
    packages: ClassVar[Mapping[str, str]] = {
        "aisfx": "aisfx",
        "librosa": "librosa",
        "soundfile": "soundfile",
        "soxr": "soxr",
    }

    def __init__(self, *, seconds: float = 30.0, batch_size: int = 8, **arguments: Any) -> None:
        super().__init__(batch_size=batch_size, **arguments)
        self.seconds = seconds

    @classmethod
    def _arguments(cls, settings: ContentSettings) -> dict[str, Any]:
        return {**super()._arguments(settings), "seconds": settings.audio_seconds}

    @property
    def description(self) -> dict[str, Any]:
        """Name, precision, version and seconds."""
        return {**super().description, "seconds": self.seconds}

    def load(self, content: BinaryIO) -> _Blocks:
        """Read an audio file into blocks of its log-mel spectrogram, ``[blocks, 100, 96]``.

        Raises:
            ContentError: the file is not usable audio.
        """
        import librosa

        samples = read_audio(content, _SAMPLING_RATE, self.seconds)
        samples = np.pad(samples, (0, max(0, _WINDOW - len(samples)))) / max(float(np.abs(samples).max()), 1e-9)
        bands = librosa.feature.melspectrogram(
            y=samples, sr=_SAMPLING_RATE, n_fft=_WINDOW, hop_length=_HOP, n_mels=_BANDS, norm=1, htk=True
        )
        frames = np.log10(bands.T * 10_000 + 1) / _HIGHEST
        frames = np.pad(frames, ((0, max(0, _BLOCK - len(frames))), (0, 0)))
        starts = range(0, len(frames) - _BLOCK + 1, _STEP)
        return np.stack([frames[start : start + _BLOCK] for start in starts]).astype(np.float32)

    def embed(self, batch: Sequence[_Blocks]) -> Any:
        """Return the features of files, ``[B, 512]``."""
        import torch

        embeddings = self.network(self._tensor(np.concatenate(list(batch))))  # [blocks of all files, 512]
        of_files = torch.split(embeddings, [len(blocks) for blocks in batch])
        return torch.stack([blocks.mean(dim=0) for blocks in of_files])

    def _load_network(self) -> Any:
        from aisfx.models.cnn2d import EmbeddingNet

        # the checkpoint has a numpy number beside the tensors; no other type is unpickled
        number = np._core.multiarray.scalar  # type: ignore[attr-defined]
        types: list[Any] = [
            (number, "numpy.core.multiarray.scalar"),
            np.dtype,
            type(np.dtype(np.int64)),
            type(np.dtype(float)),
        ]
        weights, _ = self._read_weights(types)
        network = EmbeddingNet("max", 3, 1, 64)
        prefix = "embedding_net."
        network.load_state_dict({key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)})
        return network
