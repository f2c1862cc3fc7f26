"""Patches for RecBole's environment: current versions of numpy, ray, torchvision, scipy and torch."""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse
import torch


def patch_numpy_aliases() -> None:
    """Restore the aliases that RecBole uses and numpy has removed, such as ``np.float`` (#1604, #1714, PR #2203).

    Skipped for each alias that numpy still has. Not needed once RecBole stops using them.
    """
    aliases = {
        "float": float,
        "int": int,
        "object": object,
        "str": str,
        "complex": complex,
        "unicode": str,
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
        "bool8": np.bool_,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns when some of the aliases are looked up
        for name, value in aliases.items():
            if not hasattr(np, name):
                setattr(np, name, value)


def stub_ray() -> None:
    """Stub ray where it cannot be imported, so that ``recbole.quick_start`` can (#1820, #1518).

    RecBole imports ray for one call, ``tune.report``, which has no effect outside a ray session. ray 2.6.3, the newest
    version that RecBole allows, has no wheel for Python 3.12 and needs ``pkg_resources``, which setuptools removed in
    version 82. Skipped if ray is imported or can be.
    """
    importable = importlib.util.find_spec("ray") and importlib.util.find_spec("pkg_resources")
    if "ray" in sys.modules or importable:
        return
    ray = types.ModuleType("ray")
    ray.tune = types.ModuleType("ray.tune")  # type: ignore[attr-defined]
    ray.tune.report = lambda *args, **kwargs: None
    sys.modules["ray"], sys.modules["ray.tune"] = ray, ray.tune


def declare_torchvision_operators() -> None:
    """Declare two operators, so that torchvision can be imported with a CPU-only torch (pytorch #122494, vision #8985).

    PyPI's torchvision is linked against CUDA. If that library cannot be loaded, ``import torchvision`` fails because
    two operators are missing, and transformers and open_clip fail with it. With the operators declared, the rest of
    torchvision works, transforms included. Skipped if torchvision is not installed or loads.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return
    libraries = [path for path in Path(spec.origin).parent.glob("_C.*") if path.suffix in (".so", ".pyd", ".dylib")]
    try:
        for library in libraries:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


def restore_dok_matrix_update() -> None:
    """Restore scipy's ``dok_matrix._update``, by which LightGCN and other graph models fill matrices (#2034, #2090).

    Skipped before scipy 1.13, which still has it.
    """
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, values: self._dict.update(values)


def ignore_recbole_deprecations() -> None:
    """Ignore warnings about deprecated pandas and torch calls in RecBole (no upstream issue).

    A user cannot act on them, and they appear once a column and once an epoch. The constraints on pandas and torch
    allow only versions in which the calls still work.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")


def keep_anomaly_detection_off() -> None:
    """Keep torch's anomaly detection as it was when RecBole's SINE is imported (no upstream issue).

    That module turns the detection on for the whole process, and RecBole imports it to look up any sequential model.
    Training then takes up to 50 % longer. To use the detection, turn it on after importing this package.
    """
    before = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(before)
