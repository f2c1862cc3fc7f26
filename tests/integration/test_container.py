"""The container's files, which cannot be built here: what they name exists, and the service takes what they give it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import REPOSITORY

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.parsers import serve_parser
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.settings import check_keys

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())


def test_files_that_are_copied_exist_and_are_not_ignored():
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)]
    names = {name for words in copied for name in words}
    assert names == kept
    assert all((REPOSITORY / name).exists() for name in names)


def test_extras_that_are_installed_exist():
    extras = re.search(r"^ARG EXTRAS=(.+)$", DOCKERFILE, re.MULTILINE)[1].split(",")
    setup = (REPOSITORY / "setup.py").read_text()
    declared = ast.literal_eval(re.search(r"^EXTRAS = (\{.*?^\})", setup, re.MULTILINE | re.DOTALL)[1])
    assert {"serve", "redis"} <= set(extras) <= set(declared)


def test_images_have_versions_and_the_service_is_not_root():
    images = [*re.findall(r"^ARG PYTHON=(.+)$", DOCKERFILE, re.MULTILINE), COMPOSE["services"]["redis"]["image"]]
    assert all(re.search(r"\d", image) and "latest" not in image for image in images)
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")


def test_the_service_takes_the_command_of_the_compose_file(monkeypatch):
    name, *words = COMPOSE["services"]["service"]["command"]
    assert name == "serve"
    options, settings = parse_arguments(serve_parser(), words)
    check_keys(settings)
    assert set(settings) == {"data_path", "feature_cache"}
    assert RedisAddress.parse(options.store).stream == "events"
    assert options.api_keys == "/run/secrets/keys"
    assert {"keys"} == set(COMPOSE["secrets"]) == set(COMPOSE["services"]["service"]["secrets"])
    assert "always" in COMPOSE["services"]["redis"]["command"], "what is acknowledged is on the disk"


def test_hadolint_has_nothing_to_say():
    command = [Path(sys.executable).with_name("hadolint"), REPOSITORY / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
