"""Patches for RecBole's security: no eval, no unrequested pickle and no download."""

from __future__ import annotations

import functools
import pickle
import sys
import types
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.literals import parse_literal


def replace_eval_by_literals() -> None:
    """Parse settings as literals where RecBole calls ``eval`` (no upstream issue).

    RecBole runs every string of the command line and of ``config_dict`` as code: ``--a=1/0`` crashes and
    ``--a=__import__('os')…`` executes. A module's global name takes precedence over the builtin, so the patch sets
    ``eval`` in two modules. Not needed once they do not call it.
    """
    import recbole.config.configurator
    import recbole.trainer.hyper_tuning

    for module in (recbole.config.configurator, recbole.trainer.hyper_tuning):
        module.eval = parse_literal


def replace_eval_in_kd_dagfm() -> None:
    """Look up the setting ``teacher`` by name, which KD_DAGFM runs as code (no upstream issue).

    Not needed once KD_DAGFM does not call ``eval``.
    """
    from recbole.model.context_aware_recommender import kd_dagfm

    teachers = {
        name: value
        for name, value in vars(kd_dagfm).items()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == kd_dagfm.__name__
    }

    def find_teacher(name: str) -> type:
        if name not in teachers:
            raise SettingsError(f"teacher={name!r} is unknown: choose one of {', '.join(teachers)}")
        return teachers[name]

    kd_dagfm.eval = find_teacher


def refuse_unrequested_pickles() -> None:
    """Refuse to unpickle saved data sets and data loaders unless ``allow_pickle`` is set (no upstream issue).

    RecBole unpickles ``<checkpoint_dir>/<data set>-*.pth`` whenever such a file exists, and a pickle can run any code.
    A configuration loaded from a checkpoint cannot set ``allow_pickle``. Not needed once RecBole saves data in a format
    without code.
    """
    import recbole.data
    import recbole.data.utils

    is_allowed = ContextVar("allow_pickle", default=False)

    def load(file: Any) -> Any:
        if is_allowed.get():
            return pickle.load(file)
        raise DataError(
            f"{file.name} is a pickle, which can run any code when it is loaded: delete it, or set allow_pickle=True "
            "if you made it (save_dataset, save_dataloaders)"
        )

    def with_setting(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(read)
        def read_with_setting(config: Any) -> Any:
            before = is_allowed.set(config["allow_pickle"] is True)
            try:
                return read(config)
            finally:
                is_allowed.reset(before)

        return read_with_setting

    recbole.data.utils.pickle = types.SimpleNamespace(load=load, dump=pickle.dump)
    for name in ("create_dataset", "load_split_dataloaders"):
        reader = with_setting(getattr(recbole.data.utils, name))
        # quick_start imports ray, which is slow: it is patched only if it is imported already
        for module in (recbole.data.utils, recbole.data, sys.modules.get("recbole.quick_start.quick_start")):
            if hasattr(module, name):
                setattr(module, name, reader)


def disallow_pickles_in_ldiffrec() -> None:
    """Refuse pickled objects in ``item_emb.npy``, which LDiffRec loads from the data set's folder (no upstream issue).

    Not needed once LDiffRec loads the file without ``allow_pickle``.
    """
    from recbole.model.general_recommender import ldiffrec

    numpy = types.ModuleType("numpy")
    vars(numpy).update(vars(np))
    vars(numpy)["load"] = lambda path, **_: np.load(path, allow_pickle=False)
    ldiffrec.np = numpy


def refuse_downloads() -> None:
    """Refuse to download a data set that is missing on disk and that RecBole knows a URL for (#1989).

    With a misspelt ``data_path``, RecBole would download hundreds of megabytes.
    """
    import recbole.data.dataset.dataset
    import recbole.data.dataset.kg_dataset

    def decide_download(url: str) -> bool:
        raise DataError(
            "the data set is not in data_path, and data sets are never downloaded: correct data_path, or get it from "
            f"{url}"
        )

    for module in (recbole.data.dataset.dataset, recbole.data.dataset.kg_dataset):
        module.decide_download = decide_download
