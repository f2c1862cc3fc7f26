"""Patches for RecBole's checkpoints: files without pickles, written atomically and read within limits."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.checkpoints.schema import Checkpoint, RecordedConfig
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.io.manifest import record_run, recorded_data_path
from recbole_llm_interest.settings.portable import CALLERS_SETTINGS, is_plain, portable_settings, withheld_content

CHECKPOINT_SUFFIX = ".safetensors"


def save_checkpoints_without_pickles() -> None:
    """Save checkpoints as safetensors files, and save them atomically (#2212).

    RecBole pickles its configuration with a model class and a YAML loader, so every run fails when it loads its best
    model, and loading them otherwise runs any code. RecBole also saves a checkpoint of epoch -1 over that of a resumed
    run if no epoch is left to train. Not needed once RecBole saves plain values and tensors.
    """
    from recbole.trainer import Trainer
    from recbole.utils import set_color

    original = Trainer.__init__

    def construct(self: Any, config: Any, model: Any) -> None:
        original(self, config, model)
        self.saved_model_file = str(Path(self.saved_model_file).with_suffix(CHECKPOINT_SUFFIX))

    def _save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        if epoch < 0 and Path(path).exists():
            self.logger.warning(f"{path} is unchanged: its run is finished and no epoch is left to train")
            return
        _record_and_write(self.config, Path(path), checkpoint_state(self, epoch))
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    Trainer.__init__, Trainer._save_checkpoint = construct, _save_checkpoint


def read_checkpoints_without_pickles() -> None:
    """Read checkpoints and pretrained weights by this package's reader wherever RecBole calls ``torch.load`` (#2212).

    It also reads former ``.pth`` files. ``torch.save`` of a trainer's state, as in S3Rec's pretraining, writes the same
    format under RecBole's name. A checkpoint can set only those attributes of a model that the model saves. Not needed
    once RecBole reads and writes files without pickles.
    """
    import recbole.trainer.trainer
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.model.context_aware_recommender import kd_dagfm
    from recbole.model.general_recommender import convncf, nais, neumf, ract
    from recbole.model.sequential_recommender import s3rec

    for module in (recbole.trainer.trainer, convncf, nais, neumf, ract, kd_dagfm, s3rec):
        module.torch = _TorchWithoutPickles("torch")
    for package in _quick_start():
        package.load_data_and_model = _load_data_and_model

    original = AbstractRecommender.load_other_parameter

    def load_other_parameter(self: Any, parameters: dict[str, Any] | None) -> None:
        for name in set(parameters or ()) - set(getattr(self, "other_parameter_name", ())):
            raise CheckpointError(f"the checkpoint has {name[:80]!r}, which {type(self).__name__} does not have")
        original(self, parameters)

    AbstractRecommender.load_other_parameter = load_other_parameter


def _quick_start() -> tuple[Any, Any]:
    """Return RecBole's package and module ``quick_start``, imported without ray, which takes seconds.

    RecBole uses ray for one call, which has no effect outside of a ray session. Such a session has imported ray.
    """

    def report(*args: Any, **kwargs: Any) -> None:
        if "ray" in sys.modules:
            sys.modules["ray"].tune.report(*args, **kwargs)

    is_imported = "ray" in sys.modules
    stub = types.ModuleType("ray")
    stub.tune = types.SimpleNamespace(report=report)  # type: ignore[attr-defined]
    sys.modules.setdefault("ray", stub)
    try:
        module = importlib.import_module("recbole.quick_start.quick_start")
    finally:
        if not is_imported:
            del sys.modules["ray"]
    return sys.modules["recbole.quick_start"], module


class _TorchWithoutPickles(types.ModuleType):
    """Replaces ``torch`` in RecBole's modules: ``load`` and ``save`` use checkpoints without pickles."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(path: str | Path, map_location: Any = None) -> Any:
        """Read a checkpoint to a device."""
        return _moved(load_checkpoint(Path(path)), map_location)

    @staticmethod
    def save(state: Any, path: str | Path, **options: Any) -> None:
        """Write the state of a trainer as a checkpoint, and anything else as torch does."""
        if isinstance(state, dict) and "config" in state:
            recorded = {**state, "config": recorded_config(state["config"])}
            _record_and_write(state["config"], Path(path), recorded)
        else:
            torch.save(state, path, **options)


def _record_and_write(config: Any, path: Path, state: dict[str, Any]) -> None:
    record_run(config, "checkpoint", [path])
    write_state(path, state)


def _moved(value: Any, device: Any) -> Any:
    """Move the tensors of nested values to a device; None does not move them."""
    if isinstance(value, Tensor):
        return value if device is None else value.to(device)
    if isinstance(value, dict):
        return {key: _moved(part, device) for key, part in value.items()}
    return type(value)(_moved(part, device) for part in value) if isinstance(value, list | tuple) else value


def _load_data_and_model(model_file: str | Path) -> tuple[Any, ...]:
    """Load a checkpoint, its configuration and its data, as RecBole's function of this name does.

    Args:
        model_file: of a checkpoint. ``data_path`` comes from the command line or, if this user trained the model here,
            is that of the training.

    Returns:
        Configuration, model, data set, and the data loaders of training, validation and test.

    Raises:
        LLMInterestError: the checkpoint or the data set cannot be used.
    """
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_logger, init_seed

    checkpoint = load_checkpoint(Path(model_file))
    config = _configuration(checkpoint, Path(model_file))
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(_moved(checkpoint.get("other_parameter"), config["device"]))
    return config, model, dataset, *loaders


def _configuration(checkpoint: Checkpoint, path: Path) -> Any:
    """Create RecBole's configuration of a checkpoint's training, from the settings that a file may set."""
    from recbole.config import Config

    recorded = checkpoint["config"]
    data_path = recorded_data_path(path)
    places = {} if data_path is None else {"data_path": str(data_path)}
    config = Config(
        recorded["model"], recorded["dataset"], config_dict={**portable_settings(recorded["given"]), **places}
    )
    for key in withheld_content(recorded["given"]):
        if key not in config.cmd_config_dict:
            raise CheckpointError(
                f"checkpoint {path} was trained with {key}={recorded['given'][key]!r}, and a checkpoint may not name "
                f"files: set --{key}"
            )
    return config


def recorded_config(config: Any) -> RecordedConfig:
    """Return the part of RecBole's configuration that a checkpoint keeps.

    Args:
        config: RecBole's ``Config``.
    """
    return without_callers_settings(
        {
            "model": config["model"],
            "dataset": config["dataset"],
            "item_digest": config["item_digest"],
            "settings": config.final_config_dict,
            "given": config.external_config_dict,
        }
    )


def without_callers_settings(config: RecordedConfig) -> RecordedConfig:
    """Return a recorded configuration without settings that only the caller may set, such as paths.

    Args:
        config: with all settings of a training.
    """
    settings, given = (
        {
            key: value
            for key, value in values.items()
            if key not in {*CALLERS_SETTINGS, *_SEPARATE_PARTS} and is_plain(value)
        }
        for values in (config["settings"], config["given"])
    )
    return {**config, "settings": settings, "given": given}


#: keys of a configuration that are separate parts of a checkpoint
_SEPARATE_PARTS = ("item_digest", "data_digests", "trained_on", "learned_before")


def checkpoint_state(trainer: Any, epoch: int) -> dict[str, Any]:
    """Return the saved state of a trainer, as ``Checkpoint`` describes it.

    Args:
        trainer: RecBole's.
        epoch: number of the last epoch.
    """
    return {
        "config": recorded_config(trainer.config),
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "state_dict": trainer.model.state_dict(),
        "other_parameter": {
            name: value
            for name, value in trainer.model.other_parameter().items()
            if not isinstance(value, torch.nn.Module)  # its weights are in the state_dict; it has the data set
        },
        "optimizer": trainer.optimizer.state_dict(),
        "data": trainer.config["data_digests"] or {},
        **(trainer.config["trained_on"] or {}),
    }
