"""Trains an adapter: steps over histories, validation by the features alone, early stopping, resuming."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from recbole_llm_interest.adaptation.batches import Batcher, chunks
from recbole_llm_interest.adaptation.events import AdaptationEvents
from recbole_llm_interest.adaptation.lower_layers import CHUNK, LowerLayers, by_size, embed_all
from recbole_llm_interest.adaptation.objectives import OBJECTIVES
from recbole_llm_interest.adaptation.resume_file import read_resume_file, write_resume_file
from recbole_llm_interest.adaptation.validation import next_item_ndcg
from recbole_llm_interest.content import adapters
from recbole_llm_interest.content.encoders.adapter_file import AdapterOptions, write_adapter
from recbole_llm_interest.errors import CheckpointError, DivergedError, SettingsError
from recbole_llm_interest.settings import AdaptationSettings, Modality

_logger = logging.getLogger(__name__)
#: share of the steps in which the learning rate rises
_WARMUP = 0.05
_MAX_NORM = 1.0


@dataclass
class AdaptationResult:
    """What an adaptation has led to.

    Attributes:
        frozen: NDCG@10 of next items on validation events by the features of the frozen encoder alone.
        best: the same by those of the best adapter, which may be lower.
        curve: step and NDCG@10 of each validation.
        losses: mean loss between validations, by objective.
        parameters: number of trained parameters.
        share: of the encoder's own parameters.
        state_bytes: of the remembered states of lower layers.
        seconds: of training, validation included.
    """

    frozen: float = 0.0
    best: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    parameters: int = 0
    share: float = 0.0
    state_bytes: int = 0
    seconds: float = 0.0


class Adaptation:
    """The training of one adapter.

    Args:
        encoder: whose network gets the adapter.
        modality: of the encoder.
        contents: by item, as the encoder's ``load`` returned them.
        events: of items with content; at least one of validation.
        settings: of the adaptation.
        seed: of everything that is drawn.
        output: file of the adapter.
        identity: what a state to resume has to agree in.

    Raises:
        CheckpointError: the state to resume is of another adaptation, or is damaged.
        SettingsError: no objective has a weight.
        EncoderError: the adapter does not fit the encoder.
    """

    def __init__(
        self,
        encoder: Any,
        modality: Modality,
        contents: Mapping[int, Any],
        events: AdaptationEvents,
        settings: AdaptationSettings,
        seed: int,
        output: Path,
        identity: str,
    ) -> None:
        self.encoder, self.modality, self.contents, self.settings = encoder, modality, contents, settings
        self.output, self.identity = output, identity
        self.state_file = state_path(output)
        self.items = np.array(sorted(contents))
        self.rows = len(events.tokens)
        self.validation, self.events_digest = events.validation, events.digest
        self.options = _options(settings)
        self._state = self._read_state()
        torch.manual_seed(seed)
        self.batcher = Batcher(events.histories, settings.adapt_batch_size, settings.adapt_negatives, self.rows, seed)
        self.steps = settings.adapt_epochs * self.batcher.steps
        self.result = AdaptationResult()
        encoder.network.requires_grad_(False)
        own = sum(values.numel() for values in encoder.network.parameters())
        self.layers = LowerLayers(encoder, contents, settings.adapt_layers, settings.adapt_memory_mb * 2**20)
        # a resumed training needs the width alone: its features are those of the adapter
        self.table = self._embed_all("Frozen features", self.items if self._state is None else self.items[:1])
        self.adapter = adapters.attach(encoder.network, self.options, self.steps)
        encoder.network = self.adapter.network
        width = self.table.shape[1]
        self.objectives = nn.ModuleDict({name: OBJECTIVES[name](encoder, width) for name in _chosen(settings)})
        self.objectives.to(self.table.device)
        self.result.parameters = sum(values.numel() for values in self.adapter.parameters.values())
        self.result.share = self.result.parameters / own
        self.result.state_bytes = self.layers.bytes
        self.best: dict[str, Tensor] = {}
        trained = [*self.adapter.parameters.values(), *self.objectives.parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=settings.adapt_learning_rate)

    def run(self) -> AdaptationResult:
        """Train until the last step, or until validations no longer improve; write the best adapter.

        Raises:
            DivergedError: the loss is not finite.
            StorageError: a file cannot be written.
        """
        began, step = time.monotonic(), self._resume()
        if not step:
            self.result.frozen = self._score()
        losses: list[dict[str, float]] = []
        every = max(1, self.batcher.steps // self.settings.adapt_evaluations)
        with tqdm(total=self.steps, initial=step, desc=f"Adapting to {self.modality}", unit="step") as progress:
            while step < self.steps and not self._is_over:
                losses.append(self._step(step))
                step += 1
                progress.update()
                progress.set_postfix(ndcg=f"{self.result.best:.4f}", frozen=f"{self.result.frozen:.4f}")
                if step % every == 0 or step == self.steps:
                    self.result.losses.append({name: fmean(of_step[name] for of_step in losses) for name in losses[0]})
                    self.result.seconds += time.monotonic() - began
                    began, losses = time.monotonic(), []
                    self._validate(step)
        self.result.seconds += time.monotonic() - began
        self._write()
        self.state_file.unlink(missing_ok=True)
        return self.result

    @property
    def _weights(self) -> dict[str, float]:
        return {name: getattr(self.settings, f"adapt_{name}_weight") for name in self.objectives}

    @property
    def _is_over(self) -> bool:
        """Whether the last validations did not improve on those before."""
        scores = [score for _, score in self.result.curve]
        before, latest = scores[: -self.settings.adapt_patience], scores[-self.settings.adapt_patience :]
        return bool(before) and max(latest) <= max(before)

    def _step(self, step: int) -> dict[str, float]:
        """One update; returns the losses by objective.

        Raises:
            DivergedError: a loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.adapt_learning_rate * _schedule(step / self.steps)
        self._set_training()
        histories = self.batcher.histories_of(step)
        items = by_size(np.unique(np.concatenate(histories)).tolist(), self.contents)
        negatives = self.batcher.negatives_of(step, items)
        features = torch.cat([self._features(part.tolist()) for part in chunks(items, CHUNK)]).float()
        remembered = self.table[torch.from_numpy(np.concatenate([items, negatives]))]
        self.table[torch.from_numpy(items)] = features.detach()
        batch = self.batcher.batch(histories, items, negatives, features, remembered)
        losses = {
            name: objective.loss(batch, self._contents_for(objective, step, items))  # type: ignore[operator]
            for name, objective in self.objectives.items()
        }
        total = sum(self._weights[name] * loss for name, loss in losses.items()) + self.adapter.regularization()
        if not math.isfinite(value := total.item()):
            raise DivergedError(f"the loss of the adaptation is {value}: lower adapt_learning_rate")
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], _MAX_NORM)
        self.optimizer.step()
        self.adapter.after_update(step)
        return {name: loss.item() for name, loss in losses.items()}

    def _contents_for(self, objective: Any, step: int, items: NDArray[np.int64]) -> list[Any]:
        """What an objective learns from in a step: the contents of its items, or as many of the catalogue's."""
        if objective.reads_catalogue:
            items = by_size(self.batcher.catalogue_of(step, self.items, len(items)), self.contents)
        return [self.contents[item] for item in items.tolist()]

    def _features(self, items: list[int]) -> Tensor:
        """Features with gradients; activations are computed again for these, so that one chunk's are in memory."""
        features: Tensor = checkpoint(self.layers.embed, items, self.contents, use_reentrant=False)
        return features

    def _set_training(self) -> None:
        """Dropout on where an objective needs it; the statistics of batch normalization stay those of the encoder."""
        network = self.encoder.network
        network.train(any(objective.needs_dropout for objective in self.objectives.values()))
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def _embed_all(self, title: str, items: NDArray[np.int64] | None = None) -> Tensor:
        self.encoder.network.eval()
        return embed_all(self.layers, self.contents, self.items if items is None else items, self.rows, title)

    def _score(self) -> float:
        return next_item_ndcg(self.table, self.validation, self.items)

    def _validate(self, step: int) -> None:
        self.table = self._embed_all("Validating")
        score = self._score()
        self.result.curve.append((step, score))
        if score > self.result.best or not self.best:
            self.result.best = score
            self.best = {name: values.detach().clone() for name, values in self.adapter.parameters.items()}
        _logger.info("step %d of %d: validation NDCG@10 %.4f, frozen %.4f", step, self.steps, score, self.result.frozen)
        self._save(step)

    def _write(self) -> None:
        arrays = {name: values.float().cpu().numpy() for name, values in self.best.items()}
        base = self.encoder.weights_fingerprint
        write_adapter(self.output, self.options, self.modality, base, arrays, self.events_digest)

    def _save(self, step: int) -> None:
        tensors = {
            "adapter": {name: values.detach() for name, values in self.adapter.parameters.items()},
            "best": self.best,
            "objectives": self.objectives.state_dict(),
            "random": _random_states(),
            **{f"method {name}": state for name, state in self.adapter.training_state().items()},
            **{f"optimizer {index}": state for index, state in self.optimizer.state_dict()["state"].items()},
        }
        values = {"step": step, "identity": self.identity, "result": asdict(self.result)}
        write_resume_file(self.state_file, tensors, values)

    def _read_state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """The state of an interrupted training; None if there is none.

        Raises:
            CheckpointError: it is of another adaptation, or is damaged.
        """
        if not self.state_file.exists():
            return None
        tensors, values = read_resume_file(self.state_file)
        if values.get("identity") != self.identity:
            raise CheckpointError(
                f"{self.state_file} is of an adaptation with other settings or data: delete it, or give "
                "another --output"
            )
        return tensors, values

    def _resume(self) -> int:
        """Continue an interrupted training; returns the number of steps done."""
        if self._state is None:
            return 0
        tensors, values = self._state
        with torch.no_grad():
            for name, parameter in self.adapter.parameters.items():
                parameter.copy_(tensors["adapter"][name])
        self.best = tensors["best"]
        self.objectives.load_state_dict(tensors.get("objectives", {}))
        methods = {key.removeprefix("method "): state for key, state in tensors.items() if key.startswith("method ")}
        if methods:
            self.adapter.restore(methods)
        described = self.optimizer.state_dict()
        described["state"] = {
            int(key.removeprefix("optimizer ")): state for key, state in tensors.items() if key.startswith("optimizer ")
        }
        self.optimizer.load_state_dict(described)
        self.result = AdaptationResult(**values["result"])
        self.result.curve = [(step, score) for step, score in self.result.curve]
        self.table = self._embed_all("Resuming")
        _set_random_states(tensors["random"])
        _logger.info("resumed after step %d from %s", values["step"], self.state_file)
        return int(values["step"])


def state_path(output: Path) -> Path:
    """The file of an interrupted training's state, beside the adapter."""
    return output.with_suffix(".resume.safetensors")


def check_adaptable(encoder: Any, settings: AdaptationSettings) -> None:
    """Check that an encoder can be adapted as settings say; it stays as it is.

    Raises:
        SettingsError: no objective has a weight, or the method is unknown.
        EncoderError: the method or an objective does not fit the encoder.
    """
    for name in _chosen(settings):
        OBJECTIVES[name].check(encoder)
    adapters.check_fit(encoder.network, _options(settings))


def _options(settings: AdaptationSettings) -> AdapterOptions:
    return AdapterOptions(settings.adapt_method, settings.adapt_rank, settings.adapt_layers)


def _random_states() -> dict[str, Tensor]:
    """The states of torch's generators, of each GPU too."""
    return {"cpu": torch.get_rng_state()} | {
        str(index): state for index, state in enumerate(torch.cuda.get_rng_state_all())
    }


def _set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    torch.cuda.set_rng_state_all([states[str(index)] for index in range(len(states) - 1)])


def _chosen(settings: AdaptationSettings) -> list[str]:
    """Names of the objectives with a weight.

    Raises:
        SettingsError: there is none.
    """
    chosen = [name for name in OBJECTIVES if getattr(settings, f"adapt_{name}_weight", 0.0)]
    if not chosen:
        names = ", ".join(f"adapt_{name}_weight" for name in OBJECTIVES)
        raise SettingsError(f"there is nothing to learn: set one of {names}")
    return chosen


def _schedule(progress: float) -> float:
    """The learning rate relative to its highest: a linear rise, then a cosine to zero."""
    return min(1.0, (progress + 1e-3) / _WARMUP) * (1 + math.cos(math.pi * progress)) / 2
