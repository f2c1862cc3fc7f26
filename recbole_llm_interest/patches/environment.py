"""Patches for RecBole's environment: today's numpy, ray, torchvision, scipy and torch."""

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
    """Give numpy back the aliases that RecBole uses (#1604, #1714, PR #2203).

    Skipped for each name that numpy still has; not needed once RecBole stops using them.
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
        warnings.simplefilter("ignore")  # merely asking numpy for some of the old names warns
        for name, value in aliases.items():
            if not hasattr(np, name):
                setattr(np, name, value)


def stub_ray() -> None:
    """Let ``recbole.quick_start`` import where ray cannot (#1820, #1518).

    RecBole imports ray for one call, ``tune.report``, which does nothing outside of a ray session. ray 2.6.3, the
    newest that RecBole allows, has no wheel for Python 3.12 and needs ``pkg_resources``, which setuptools dropped
    in version 82. Skipped where ray is imported already or can be.
    """
    importable = importlib.util.find_spec("ray") and importlib.util.find_spec("pkg_resources")
    if "ray" in sys.modules or importable:
        return
    ray = types.ModuleType("ray")
    ray.tune = types.ModuleType("ray.tune")  # type: ignore[attr-defined]
    ray.tune.report = lambda *args, **kwargs: None
    sys.modules["ray"], sys.modules["ray.tune"] = ray, ray.tune


def declare_torchvision_operators() -> None:
    """Let torchvision import beside a CPU-only torch (pytorch #122494, vision #8985).

    PyPI's torchvision is linked against CUDA. Where that library does not load, ``import torchvision`` fails for
    want of two operators, and takes transformers and open_clip down with it. Declaring the operators' signatures
    is enough for the rest of torchvision, transforms included. Skipped where torchvision is absent or loads.
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
    """Give scipy's ``dok_matrix`` back the ``_update`` by which LightGCN and its kin fill it (#2034, #2090).

    Skipped where scipy still has it, as before 1.13.
    """
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, values: self._dict.update(values)


def ignore_recbole_deprecations() -> None:
    """Keep RecBole's use of deprecated pandas and torch calls off the console (no upstream issue).

    A user can do nothing about them, and they come once a column and once an epoch. The constraints on pandas and
    torch hold the versions in which the calls still work.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")


def keep_anomaly_detection_off() -> None:
    """Undo what importing RecBole's SINE does to every model of the process (no upstream issue).

    That module turns torch's anomaly detection on as it is imported, and looking up any sequential model imports
    it: training then takes up to half as long again. Whoever wants the detection turns it on after importing us.
    """
    before = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(before)
