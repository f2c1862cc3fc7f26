"""The process of a peer: starts the environment's Python and exchanges messages with it."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, Self, cast

from numpy.typing import NDArray

from recbole_llm_interest.errors import SettingsError, TrainingError
from recbole_llm_interest.peers.worker.channel import Channel

#: names another environment's Python. No setting: files and checkpoints do not choose what is executed
PYTHON_VARIABLE = "LLM_INTEREST_PEERS_PYTHON"
#: of the checkout, which ``make peers`` makes
_ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "python"


def peers_command() -> list[str]:
    """Return the command of the other process.

    Raises:
        SettingsError: there is no such environment.
    """
    given = os.environ.get(PYTHON_VARIABLE)
    python = Path(given) if given else _ENVIRONMENT
    if not python.is_file():
        advice = f"{PYTHON_VARIABLE} names it" if given else "`make peers` in the checkout makes it"
        raise SettingsError(f"models of RecTools need an environment of their own, and {python} is missing: {advice}")
    return [str(python), "-m", "worker"]


class PeerProcess:
    """A running process that trains a peer and scores for it. It ends with this process at the latest.

    As a context, it ends with the block.

    Args:
        name: of the model, for messages.
        command: what to run.

    Raises:
        TrainingError: the process cannot be started.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
        environment["PYTHONPATH"] = str(Path(__file__).parent)  # the program is not part of the environment
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # an interrupt is this process' to handle
            )
        except OSError as error:
            self._errors.close()
            raise TrainingError(f"{name}: {command[0]} cannot be run: {error.strerror}") from error
        self._channel = Channel(*(cast(BinaryIO, pipe) for pipe in (self._process.stdout, self._process.stdin)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(
        self, request: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Send a message and return the answer.

        Args:
            request: header of the message.
            arrays: its arrays.

        Raises:
            SettingsError: the model refuses a setting.
            TrainingError: the process has failed or was killed.
        """
        try:
            self._channel.send(request, arrays)
            answer, values = self._channel.receive()
        except (OSError, EOFError, ValueError) as error:
            raise self._failure() from error
        if "error" in answer:
            self._log_errors()
            kind = SettingsError if answer["kind"] == "settings" else TrainingError
            raise kind(f"{self.name}: {answer['error']}")
        return answer, values

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                file.close()

    def _failure(self) -> TrainingError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        lines = self._log_errors()
        reason = f"it was ended by signal {-code}" if code < 0 else (lines or ["no message"])[-1]
        memory = ", as the system does when memory is short" if code == -9 else ""
        return TrainingError(f"{self.name}: the process of RecTools has failed: {reason}{memory}")

    def _log_errors(self) -> list[str]:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        logging.getLogger().info("output of the process of %s:\n%s", self.name, text)
        return text.strip().splitlines()
