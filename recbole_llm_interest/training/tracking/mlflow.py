"""MLflow: one of its runs, in the store that its own environment variables name."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings.trackers import TRACKER_PACKAGES, check_tracker_packages
from recbole_llm_interest.training.tracking import Status, TrackedRun

#: where runs are written unless ``MLFLOW_TRACKING_URI`` says otherwise; MLflow's own default
_DEFAULT_STORE = "sqlite:///mlflow.db"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
#: MLflow's own words
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
#: without these, a server that does not answer stops a run for minutes; telemetry would use the network
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
#: what one request may hold, and characters of a parameter and of a tag
_PARAMETERS, _PARAMETER_CHARACTERS, _TAG_CHARACTERS = 100, 6000, 5000


class MLflowTracker:
    """Writes to the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, or else to that of the data set's name.

    The tag ``comparison`` groups the runs.

    Args:
        run: what to show of it.
        former: id of the run to continue; None for a new one.
    """

    packages: ClassVar[tuple[str, ...]] = TRACKER_PACKAGES["mlflow"]

    def __init__(self, run: TrackedRun, former: str | None) -> None:
        self._client = _client()
        self._written: dict[str, int] = {}
        self.is_continued = former is not None and self._exists(former)
        if former is not None and self.is_continued:
            self.id = former
            self._client.update_run(self.id, status="RUNNING")
            self._written = self._last_epochs()
        else:
            self.id = self._create(run)
            self._write_settings(run.settings)
        self.place = self._address()

    @staticmethod
    def check() -> None:
        """Check that the packages of the store are installed, and that MLflow accepts a store on this machine.

        Raises:
            SettingsError: a package is missing, or MLflow refuses the store.
        """
        store = _store()
        scheme = re.split(r"[+:]", store)[0]
        if scheme in _DATABASES:
            check_tracker_packages(f"mlflow in {_without_password(store)}", ("sqlalchemy", "alembic"))
        elif scheme not in ("http", "https"):
            try:
                _client().search_experiments(max_results=1)
            except Exception as error:  # mlflow.exceptions cannot be imported above
                reason = " ".join(str(error).split())
                raise SettingsError(f"tracking by mlflow cannot use MLFLOW_TRACKING_URI={store}: {reason}") from error

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Write values in one request."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        named = {_metric_name(name): value for name, value in values.items()}
        # of a run that was killed, an epoch that it had written may be trained again; without training it is epoch 0
        metrics = [
            Metric(name, value, now, epoch) for name, value in named.items() if epoch > self._written.get(name, -1)
        ]
        self._client.log_batch(self.id, metrics=metrics, synchronous=True)

    def summarize(self, values: Mapping[str, float], epochs: int) -> None:
        """Write values at the last epoch."""
        self.log(values, epochs)

    def close(self, status: Status) -> None:
        """End the run."""
        self._client.set_terminated(self.id, _STATUS[status])

    def _create(self, run: TrackedRun) -> str:
        tags = {"comparison": run.comparison, **{name: str(value) for name, value in run.facts.items()}}
        if commit := run.facts.get("commit"):
            tags["mlflow.source.git.commit"] = str(commit)
        shown = {name: value[:_TAG_CHARACTERS] for name, value in tags.items()}
        return str(self._client.create_run(self._experiment(run), run_name=run.name, tags=shown).info.run_id)

    def _write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write settings as parameters. If they cannot be written, the run ends: nobody else knows it yet."""
        from mlflow.entities import Param

        parameters = [Param(_allowed(name), str(value)[:_PARAMETER_CHARACTERS]) for name, value in settings.items()]
        try:
            for part in _parts(parameters, _PARAMETERS):
                self._client.log_batch(self.id, params=part, synchronous=True)
        except Exception:
            with contextlib.suppress(Exception):
                self.close("failed")
            raise

    def _experiment(self, run: TrackedRun) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or str(run.facts["dataset"])
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _last_epochs(self) -> dict[str, int]:
        """Return the last epoch that the run has of each metric."""
        names = self._client.get_run(self.id).data.metrics
        return {name: max(metric.step for metric in self._client.get_metric_history(self.id, name)) for name in names}

    def _exists(self, former: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(former).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def _address(self) -> str:
        store = _without_password(_store())
        if not store.startswith(("http:", "https:")):
            return store
        experiment = self._client.get_run(self.id).info.experiment_id
        return f"{store.rstrip('/')}/#/experiments/{experiment}/runs/{self.id}"


def _store() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_STORE


def _client() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    # the one reports the steps of making a database, the other each attempt to reach a server
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=_store())


def _metric_name(name: str) -> str:
    """Return a name as MLflow writes metrics at a cutoff: ``valid/ndcg_at_10``."""
    return _allowed(name.replace("@", "_at_"))


def _allowed(name: str) -> str:
    """Replace characters that MLflow refuses in names."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _without_password(store: str) -> str:
    """Return an address without user and password."""
    parts = urlsplit(store)
    return store.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else store
