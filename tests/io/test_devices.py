"""Devices are known without torch, and as torch and RecBole name them."""

from __future__ import annotations

import os

import pytest
import torch
from recbole.config import Config

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io import devices


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine whose drivers have created these files."""
    monkeypatch.setattr(devices, "_DEVICES", tmp_path)
    return lambda *names: [(tmp_path / name).touch() for name in names]


@pytest.mark.parametrize("name", [None, "cpu", "cpu:0", "mps", "mps:0", "xpu", "xpu:1", "cuda", "cuda:1"])
def test_devices_of_torch_are_accepted_where_they_may_be(machine, name):
    machine("nvidia0", "nvidia1", "nvidiactl")
    devices.check_device("encoder_device", name)
    if name is not None:
        torch.device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda 1", "CUDA", ""])
def test_other_names_are_refused(machine, name):
    machine("nvidia0")
    with pytest.raises(SettingsError, match="is no device: give cpu, cuda, or cuda:1"):
        devices.check_device("encoder_device", name)


def test_gpu_that_is_not_there_is_refused(machine):
    with pytest.raises(SettingsError, match="this machine has no GPU"):
        devices.check_device("encoder_device", "cuda")
    machine("nvidia0")
    with pytest.raises(SettingsError, match="this machine has 1 GPU, counted from 0"):
        devices.check_device("encoder_device", "cuda:1")


@pytest.mark.parametrize("driver", ["kfd", "dxg", "nvgpu", "nvhost-gpu"])
def test_gpus_that_cannot_be_counted_are_left_to_torch(machine, driver):
    machine(driver)
    assert devices.gpu_count() is None
    devices.check_device("encoder_device", "cuda:1")


@pytest.mark.parametrize("given", ["0", "1", "0,1", ""])
def test_gpus_that_torch_sees_are_those_of_recbole(monkeypatch, here, given):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    read = Config("Pop", "mine", config_dict={"gpu_id": given})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given == read["gpu_id"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    devices.show_gpus(given)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given
