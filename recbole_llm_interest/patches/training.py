"""Patches for RecBole's training: sampling, checkpoints, early stopping, TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_llm_interest.distributed import is_main_process
from recbole_llm_interest.io.files import write_atomically


def disable_unused_negative_sampling() -> None:
    """Turn negative sampling off for models that make no use of it (no upstream issue).

    RecBole samples negatives by default. A sequential model with cross-entropy then refuses to start, and ``Pop``
    counts the sampled items as if users had chosen them. Skipped where the user sets ``train_neg_sample_args``.
    """
    from recbole.config import Config
    from recbole.utils import InputType, ModelType

    original = Config._set_default_parameters

    def _set_default_parameters(self: Any) -> None:
        settings = self.final_config_dict
        input_type = getattr(self.model_class, "input_type", None)
        cross_entropy = (
            settings["MODEL_TYPE"] == ModelType.SEQUENTIAL and input_type is None and settings.get("loss_type") == "CE"
        )
        counts_positives = settings["MODEL_TYPE"] == ModelType.TRADITIONAL and input_type == InputType.POINTWISE
        if (cross_entropy or counts_positives) and "train_neg_sample_args" not in self.external_config_dict:
            settings["train_neg_sample_args"] = None
        original(self)

    Config._set_default_parameters = _set_default_parameters


def fix_pop_counts() -> None:
    """Let ``Pop`` count an item as often as it was chosen (no upstream issue).

    RecBole adds one by advanced indexing, which counts an item once a batch however often it stands there: with 48
    batches an epoch the hundreds of ml-100k's popular films all end at 48. Not needed once upstream uses
    ``index_add_``.
    """
    from recbole.model.general_recommender import Pop

    original = Pop.calculate_loss

    def calculate_loss(self: Any, interaction: Any) -> torch.Tensor:
        counts = self.item_cnt.clone()
        loss = original(self, interaction)
        counts.index_add_(0, interaction[self.ITEM_ID], torch.ones_like(interaction[self.ITEM_ID])[:, None])
        self.item_cnt, self.max_cnt = counts, counts.max(dim=0).values
        return loss

    Pop.calculate_loss = calculate_loss


def save_weights_only_checkpoints() -> None:
    """Write checkpoints that torch's safe loader reads, and that a kill cannot damage (#2212).

    Stock checkpoints use a pickle protocol that ``weights_only`` loading does not know and hold a model class and
    a YAML loader, so that every run dies when it reloads its best model. Written to a temporary file first and
    renamed, a checkpoint is either the old one or the new one. RecBole also writes one, of epoch -1, when no epoch is
    left to train, over that of the run that is resumed. Not needed once upstream saves plain values.
    """
    from recbole.config import Config
    from recbole.trainer import Trainer
    from recbole.utils import EvaluatorType, InputType, ModelType, set_color

    def state_without_classes(self: Any) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("model_class", "yaml_loader")}

    def restore_state(self: Any, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("final_config_dict", {})["allow_pickle"] = (
            False  # whoever wrote the file may have wanted it otherwise
        )
        self.yaml_loader = self._build_yaml_loader()

    def _save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        if epoch < 0 and Path(path).exists():
            self.logger.warning(f"{path} is finished: there is no epoch left to train, and it stays as it is")
            return
        state = checkpoint_state(self, epoch)
        write_checkpoint(Path(path), state)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    Config.__getstate__, Config.__setstate__ = state_without_classes, restore_state
    Trainer._save_checkpoint = _save_checkpoint
    torch.serialization.add_safe_globals([Config, EvaluatorType, InputType, ModelType, *_array_types()])


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that torch's safe loader reads.

    Raises:
        StorageError: it cannot be written; what was there before is still there.
    """
    otherwise = "set checkpoint_dir to another folder"
    write_atomically(path, lambda file: torch.save(state, file, pickle_protocol=2), otherwise)


def checkpoint_state(trainer: Any, epoch: int) -> dict[str, Any]:
    """What RecBole saves of a trainer, in values that torch's safe loader reads."""
    return {
        "config": trainer.config,
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "state_dict": trainer.model.state_dict(),
        "other_parameter": {
            name: value
            for name, value in trainer.model.other_parameter().items()
            if not isinstance(value, torch.nn.Module)  # its weights are in the state_dict; it holds the data set
        },
        "optimizer": trainer.optimizer.state_dict(),
    }


def _array_types() -> list[Any]:
    """The names by which numpy and scipy arrays are pickled: ItemKNN, EASE and the like keep their model in such."""
    matrices = [
        np.matrix,
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_matrix,
        scipy.sparse.coo_matrix,
        scipy.sparse.lil_matrix,
    ]
    dtypes = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_, np.object_)]
    rebuild: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
    return [*rebuild, np.ndarray, np.dtype, *dtypes, *matrices]


def write_tensorboard_beside_log() -> None:
    """Write TensorBoard's events next to the run's log file (no upstream issue).

    RecBole writes them to ``log_tensorboard`` below the current directory, whatever the other logs' place.
    A run without a log file, as in a notebook, writes to ``log/tensorboard``. Of processes that train together, the
    first writes.
    """
    import recbole.trainer.trainer
    from torch.utils.tensorboard import SummaryWriter

    def get_tensorboard(logger: Any) -> SummaryWriter | _NoTensorBoard:
        if not is_main_process():
            return _NoTensorBoard()
        files = [Path(handler.baseFilename) for handler in logger.handlers if hasattr(handler, "baseFilename")]
        logs = [file.with_suffix("") for file in files if file.is_file()]
        return SummaryWriter(str(logs[0] if logs else Path("log", "tensorboard")))

    recbole.trainer.trainer.get_tensorboard = get_tensorboard


class _NoTensorBoard:
    """What a process that writes nothing has in the place of TensorBoard's writer."""

    def add_scalar(self, *args: object) -> None:
        pass

    def add_hparams(self, *args: object) -> None:
        pass


def fix_early_stopping_on_plateaus() -> None:
    """Stop early when the validation score stays level, and keep the first of equal epochs (no upstream issue).

    RecBole takes a score that equals the best one, to four decimals, for an improvement: a model that has converged
    trains on to the last epoch and overwrites its best checkpoint each time. Not needed once it compares with ``>``.
    """
    import recbole.trainer.trainer

    def early_stopping(
        value: float, best: float, cur_step: int, max_step: int, bigger: bool = True
    ) -> tuple[float, int, bool, bool]:
        if value > best if bigger else value < best:
            return value, 0, False, True
        return best, cur_step + 1, cur_step + 1 > max_step, False

    recbole.trainer.trainer.early_stopping = early_stopping


def fix_folder_creation_race() -> None:
    """Make folders whether or not another process has just made them (no upstream issue).

    RecBole looks first and makes then, so that of two runs that start together one ends with ``FileExistsError``.
    """
    import recbole.data.utils
    import recbole.trainer.trainer
    import recbole.utils.logger

    def ensure_dir(dir_path: str) -> None:
        Path(dir_path).mkdir(parents=True, exist_ok=True)

    for module in (recbole.data.utils, recbole.trainer.trainer, recbole.utils.logger):
        module.ensure_dir = ensure_dir


def fix_count_metrics() -> None:
    """Let metrics that need counts be computed: coverage, popularity, Gini, entropy, tail share (#2194, #2191).

    RecBole calls ``.cpu()`` on all that it collected, plain counts included. Not needed once it asks for the type.
    """
    from recbole.evaluator import Collector

    original = Collector.get_data_struct

    def get_data_struct(self: Any) -> Any:
        collected = self.data_struct._data_dict
        counts = {name: value for name, value in collected.items() if not isinstance(value, torch.Tensor)}
        for name in counts:
            del collected[name]
        struct = original(self)
        for name, value in counts.items():
            self.data_struct.set(name, value)
            struct.set(name, value)
        return struct

    Collector.get_data_struct = get_data_struct
