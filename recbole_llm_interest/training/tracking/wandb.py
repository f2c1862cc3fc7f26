"""Weights & Biases: one of its runs, online or offline as its own environment variables say."""

from __future__ import annotations

import contextlib
import netrc
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings.trackers import TRACKER_PACKAGES
from recbole_llm_interest.training.tracking import Status, TrackedRun

#: seconds that the start of a run may wait for the server
_INIT_TIMEOUT = 30
#: the host of W&B's own keys, under which newer versions find them, too, if they use another one
_HOST = "api.wandb.ai"
#: characters of a group's name that W&B accepts
_GROUP_CHARACTERS = 128


class WandbTracker:
    """Writes to the project that RecBole's setting ``wandb_project`` names, in the group of the comparison.

    Args:
        run: what to show of it.
        former: id of the run to continue; None for a new one.
    """

    packages: ClassVar[tuple[str, ...]] = TRACKER_PACKAGES["wandb"]

    def __init__(self, run: TrackedRun, former: str | None) -> None:
        wandb, here = _imported(), Path.cwd()
        self.id = former or secrets.token_hex(4)
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            group=run.comparison[:_GROUP_CHARACTERS],
            config={**run.settings, **run.facts},
            id=self.id,
            resume="allow" if former else None,
            dir=os.environ.get("WANDB_DIR") or here,  # W&B's own default is where its first run was
            reinit="create_new",  # a run of the user's own stays open
            settings=wandb.Settings(console="off", init_timeout=_INIT_TIMEOUT),
        )
        # a run that the server does not have any more is made anew; offline, nobody can know
        self.is_continued = former is not None and bool(self._run.offline or self._run.resumed)
        folder = Path(self._run.settings.sync_dir)
        if not self._run.offline:
            self.place = str(self._run.url)
        else:
            self.place = str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    @staticmethod
    def check() -> None:
        """Check that a login is stored, unless runs stay on this machine. W&B itself would ask for it in the middle.

        Raises:
            SettingsError: there is none.
        """
        settings = _imported().setup().settings
        if settings.mode not in (None, "online", "shared") or settings.api_key or settings.identity_token_file:
            return
        if not _has_password(urlsplit(settings.base_url).netloc, _HOST):
            raise SettingsError(
                f"tracking by wandb needs a login for {settings.base_url}: run `wandb login` once, or set "
                "WANDB_MODE=offline, and send runs later by `wandb sync`"
            )

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Write values in one step. Steps count calls: the axis of charts is the epoch."""
        self._run.log({"epoch": epoch, **values})

    def summarize(self, values: Mapping[str, float], epochs: int) -> None:
        """Write values to the run's summary, the columns of W&B's table of runs."""
        self._run.summary.update(dict(values))

    def close(self, status: Status) -> None:
        """Wait until all is sent; W&B shows the run as failed unless it has finished."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _imported() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # errors would be sent even from offline runs
    os.environ.setdefault("WANDB_SILENT", "true")  # the command says at its end where runs are
    import wandb

    return wandb


def _has_password(*hosts: str) -> bool:
    """Return whether the file by which ``wandb login`` remembers keys has one for any of the hosts."""
    for name in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if name and any(map(netrc.netrc(os.path.expanduser(name)).authenticators, hosts)):
                return True
    return False
