"""Patches for RecBole's security: no eval, no pickle and no download that was not asked for."""

from __future__ import annotations

import ast
import contextlib
import functools
import pickle
import sys
import types
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
import yaml

from recbole_llm_interest.errors import DataError, SettingsError


def parse_literal(text: str) -> Any:
    """Read ``text`` as a Python literal (number, string, list, tuple, dict, set, boolean, None) or a YAML list or dict.

    Raises:
        SyntaxError: it is none of these. RecBole then keeps the string as it stands.
    """
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        if text.strip()[:1] in ("[", "{"):  # as in [title, genres]: words without quotes
            with contextlib.suppress(yaml.YAMLError):
                return yaml.safe_load(text)
        raise SyntaxError(f"not a literal: {text[:80]}") from error


def replace_eval_by_literals() -> None:
    """Read settings as literals where RecBole calls ``eval`` on them (no upstream issue).

    RecBole runs every string of the command line and of ``config_dict`` as code, so that ``--a=1/0`` crashes and
    ``--a=__import__('os')…`` executes. A module's own name goes before the builtin, which is all this needs.
    Not needed once upstream has no ``eval`` in these two modules.
    """
    import recbole.config.configurator
    import recbole.trainer.hyper_tuning

    for module in (recbole.config.configurator, recbole.trainer.hyper_tuning):
        module.eval = parse_literal


def replace_eval_in_kd_dagfm() -> None:
    """Look ``teacher``, which KD_DAGFM runs as code, up by its name (no upstream issue).

    Not needed once upstream has no ``eval`` there.
    """
    from recbole.model.context_aware_recommender import kd_dagfm

    teachers = {
        name: value
        for name, value in vars(kd_dagfm).items()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == kd_dagfm.__name__
    }

    def teacher_named(name: str) -> type:
        if name not in teachers:
            raise SettingsError(f"teacher={name!r} is none of {', '.join(teachers)}")
        return teachers[name]

    kd_dagfm.eval = teacher_named


def refuse_unrequested_pickles() -> None:
    """Refuse saved data sets and data loaders, unless ``allow_pickle`` is set (no upstream issue).

    RecBole unpickles ``<checkpoint_dir>/<data set>-*.pth`` wherever it finds such a file, asked or not, and
    unpickling runs what the file says. A configuration that comes out of a checkpoint cannot allow it. Not needed
    once RecBole saves data in a form that holds no code.
    """
    import recbole.data
    import recbole.data.utils

    is_allowed = ContextVar("allow_pickle", default=False)

    def load(file: Any) -> Any:
        if is_allowed.get():
            return pickle.load(file)
        raise DataError(
            f"{file.name} is a pickle, which may run any code as it is read: delete it, or set allow_pickle=True if "
            "you made it (save_dataset, save_dataloaders)"
        )

    def as_configured(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(read)
        def read_as_configured(config: Any) -> Any:
            before = is_allowed.set(config["allow_pickle"] is True)
            try:
                return read(config)
            finally:
                is_allowed.reset(before)

        return read_as_configured

    recbole.data.utils.pickle = types.SimpleNamespace(load=load, dump=pickle.dump)
    for name in ("create_dataset", "load_split_dataloaders"):
        reader = as_configured(getattr(recbole.data.utils, name))
        for module in (recbole.data.utils, recbole.data, sys.modules.get("recbole.quick_start.quick_start")):
            if hasattr(module, name):  # quick_start imports ray, which takes a while: if it is there, it is mended
                setattr(module, name, reader)


def disallow_pickles_in_ldiffrec() -> None:
    """Refuse pickled objects in ``item_emb.npy``, which LDiffRec reads from the data set's folder (no upstream issue).

    Not needed once upstream leaves ``allow_pickle`` off.
    """
    from recbole.model.general_recommender import ldiffrec

    numpy = types.ModuleType("numpy")
    vars(numpy).update(vars(np))
    vars(numpy)["load"] = lambda path, **_: np.load(path, allow_pickle=False)
    ldiffrec.np = numpy


def refuse_downloads() -> None:
    """Refuse to fetch a data set whose folder is missing and whose name RecBole has an address for (#1989).

    A misspelt ``data_path`` would be answered by hundreds of megabytes from the network.
    """
    import recbole.data.dataset.dataset
    import recbole.data.dataset.kg_dataset

    def decide_download(url: str) -> bool:
        raise DataError(
            f"the data set is not where data_path says, and data sets are never downloaded: {url} is where RecBole "
            "would get it from"
        )

    for module in (recbole.data.dataset.dataset, recbole.data.dataset.kg_dataset):
        module.decide_download = decide_download
