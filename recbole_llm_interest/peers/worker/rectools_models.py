"""RecTools models by name, trained by the library's own Lightning modules, one epoch at a time."""

from __future__ import annotations

import inspect
import resource
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import rectools
import torch
from numpy.typing import NDArray
from rectools.dataset import Dataset
from rectools.fast_transformers import UniSRecModel
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

from .channel import Channel

#: arguments of models that others decide: settings that all rows of a comparison share, and this program
_RESERVED = {"session_max_len", "epochs", "verbose", "device", "patience", "recommend_torch_device"}
#: the frozen content of items: no weight
_FROZEN = "frozen_emb"


def serve(channel: Channel) -> None:
    """Receive the training events and the settings, train, and answer until the other process ends.

    Args:
        channel: to the other process.

    Raises:
        EOFError: the other process has ended.
        TypeError: a setting is unknown to the model.
        ValueError: a setting has a value that the model refuses.
    """
    warnings.filterwarnings("ignore")
    start, arrays = channel.receive()
    torch.set_num_threads(start["threads"])
    pl.seed_everything(start["seed"], workers=True, verbose=False)
    _MODELS[start["model"]](start, arrays, Served(channel, start))


class Served(pl.Callback):
    """Holds Lightning's training before each epoch and answers requests until the next epoch is asked for.

    Args:
        channel: to the other process.
        start: header of its first message.

    Attributes:
        known_items: returns the other process' numbers of the items that the training knows, ``[K]``. It is set before
            the training begins, as ``score`` is.
        score: from Lightning's module, sessions ``[B, L]`` and times ``[B, L + 1]`` to scores of those ``[B, K]``.
    """

    known_items: Callable[[], NDArray[np.int64]]
    score: Callable[[Any, NDArray[np.int64], NDArray[np.int64]], torch.Tensor]

    def __init__(self, channel: Channel, start: Mapping[str, Any]) -> None:
        self.channel = channel
        self.start = start
        self.is_ready = False
        self.cpu_start = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Served:
        """Itself: RecTools copies the trainer, and pipes cannot be copied."""
        return self

    def trainer(self, **options: Any) -> pl.Trainer:
        """Return Lightning's trainer with this callback, which writes and prints nothing."""
        silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        return pl.Trainer(
            max_epochs=self.start["epochs"],
            accelerator="gpu" if self.start["device"] == "cuda" else "cpu",
            devices=1,
            callbacks=[self],
            **dict.fromkeys(silent, False),
            **options,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Answer requests until the next epoch is asked for."""
        if not self.is_ready:  # weights are initialised by now
            self.is_ready = True
            self._answer(module, {"version": rectools.__version__})
        self._serve(module)
        self.cpu_start = time.process_time()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Report the epoch with the weights after it."""
        costs = {
            "cpu_seconds": time.process_time() - self.cpu_start,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        }
        self._answer(module, {"loss": float(trainer.callback_metrics["train_loss"]), **costs})

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Answer requests after the last epoch."""
        self._serve(module)

    def _answer(self, module: pl.LightningModule, header: Mapping[str, Any]) -> None:
        state = module.state_dict().items()
        weights = {name: values.cpu().numpy() for name, values in state if not name.endswith(_FROZEN)}
        trainable = [name for name, values in module.named_parameters() if values.requires_grad]
        self.channel.send({**header, "trainable": trainable}, weights)

    def _serve(self, module: pl.LightningModule) -> None:
        module.eval()
        while True:
            request, arrays = self.channel.receive()
            if request["do"] == "train":
                break
            if request["do"] == "load":
                weights = {name: torch.from_numpy(values) for name, values in arrays.items()}
                module.load_state_dict(weights, strict=False)
                self.channel.send({})
            else:
                self.channel.send({}, {"scores": self._scores(module, arrays["histories"], arrays["times"])})
        module.train()

    @torch.no_grad()
    def _scores(
        self, module: pl.LightningModule, histories: NDArray[np.int64], times: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Score all items for histories, ``[B, L] -> [B, N]``; items that the training lacks get minus infinity.

        Args:
            module: Lightning's.
            histories: items in the other process' numbers, with 0 for no event.
            times: seconds of these events and of the moment to predict for, ``[B, L + 1]``.
        """
        items = self.known_items()
        number = np.zeros(self.start["items"], dtype=np.int64)
        number[items] = np.arange(1, len(items) + 1)
        sessions = number[histories]
        # as RecTools does: without unknown items, events at the right end
        order = np.argsort(sessions > 0, axis=1, kind="stable")
        sessions = np.take_along_axis(sessions, order, axis=1)
        before = np.take_along_axis(times[:, :-1], order, axis=1)
        first = (sessions == 0).sum(axis=1).clip(max=sessions.shape[1] - 1)
        before = np.where(sessions > 0, before, np.take_along_axis(before, first[:, None], axis=1))
        known = self.score(module, sessions, np.concatenate([before, times[:, -1:]], axis=1)).float().cpu().numpy()
        scores = np.full((len(histories), self.start["items"]), -np.inf, dtype=np.float32)
        scores[:, items] = known
        scores[sessions[:, -1] == 0] = -np.inf  # RecTools has no recommendations without a known item
        return scores


def _fit_transformer(
    model_class: type[Any], defaults: dict[str, Any], start: dict[str, Any], arrays: dict[str, Any], served: Served
) -> None:
    """Train ``SASRecModel`` or ``HSTUModel``."""
    given = {**defaults, **_checked(model_class, start["settings"])}
    model = model_class(**given, session_max_len=start["length"])
    preparator = model.data_preparator
    model._trainer = served.trainer()  # as RecTools' documentation does
    events = pd.DataFrame({"user_id": arrays["users"], "item_id": arrays["items"], "weight": 1.0})
    seconds = arrays["times"] if getattr(model, "relative_time_attention", False) else np.arange(len(events))
    events["datetime"] = pd.to_datetime(seconds, unit="s")

    def score(module: Any, sessions: NDArray[np.int64], times: NDArray[np.int64]) -> torch.Tensor:
        network = module.torch_model
        device = network.item_model.device
        batch = {"x": torch.from_numpy(sessions).to(device), "unix_ts": torch.from_numpy(times).to(device)}
        items = network.item_model.get_all_embeddings()
        last = network.encode_sessions(batch, items)[:, -1:]
        scores: torch.Tensor = network.similarity_module(last, items)[:, 0]
        return scores[:, preparator.n_item_extra_tokens :]

    served.known_items = lambda: preparator.get_known_item_ids().astype(np.int64)
    served.score = score
    model.fit(Dataset.construct(events))


def _fit_unisrec(start: dict[str, Any], arrays: dict[str, Any], served: Served) -> None:
    """Train ``UniSRecModel`` on the embeddings of items."""

    class ServedUniSRec(UniSRecModel):
        def _make_trainer(self, max_epochs: int, val_dl: Any = None) -> pl.Trainer:
            return served.trainer(gradient_clip_val=self.grad_clip)

    def score(module: Any, sessions: NDArray[np.int64], times: NDArray[np.int64]) -> torch.Tensor:
        last = module.net.encode_last(torch.from_numpy(sessions).to(module.device))
        scores: torch.Tensor = last @ module.net.project_all()[1:].T
        return scores

    given = _checked(UniSRecModel, start["settings"])
    fixed = {"session_max_len": start["length"], "epochs": start["epochs"]}
    model = ServedUniSRec(torch.from_numpy(arrays["embeddings"]), **given, **fixed)
    served.known_items, served.score = lambda: model.item_id_mapping.numpy(), score
    order = torch.arange(len(arrays["users"]))
    model.fit(torch.from_numpy(arrays["users"]), torch.from_numpy(arrays["items"]), order)


def _checked(model_class: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Check that settings are arguments of the model that take plain values.

    Raises:
        TypeError: one is not.
    """
    arguments = inspect.signature(model_class.__init__).parameters.values()
    known = {
        argument.name
        for argument in arguments
        if argument.default is None or isinstance(argument.default, (bool, int, float, str))
        if argument.name not in _RESERVED and not argument.name.endswith(("_func", "_func_kwargs"))
    }
    for name in settings:
        if name not in known:
            raise TypeError(f"{model_class.__name__} has no setting {name!r}; it has {', '.join(sorted(known))}")
    return settings


def _sasrec(*given: Any) -> None:
    _fit_transformer(SASRecModel, {}, *given)


def _esasrec(*given: Any) -> None:
    """LiGR layers and sampled softmax; these layers rely on the mask of padding, others multiply by it."""
    defaults = {"loss": "sampled_softmax", "n_negatives": 256, "use_key_padding_mask": True}
    _fit_transformer(SASRecModel, {"transformer_layers_type": LiGRLayers, **defaults}, *given)


def _hstu(start: dict[str, Any], *given: Any) -> None:
    """With attention to time only if the data have a clock."""
    _fit_transformer(HSTUModel, {"relative_time_attention": start["has_clock"]}, start, *given)


#: what trains a model, by its name after ``rectools:``
_MODELS: dict[str, Callable[..., None]] = {
    "SASRec": _sasrec,
    "eSASRec": _esasrec,
    "HSTU": _hstu,
    "UniSRec": _fit_unisrec,
}
