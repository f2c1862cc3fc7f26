"""Manifests: records of the files that the package has written and of their data sets, one line for each file.

A manifest is beside the checkpoints. A file is recorded before it is written, so every file has a record. A per-user
index lists all manifests. A record of a file outside the manifest's folder is used only if the manifest is in the
index, because other manifests may be part of a downloaded folder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from recbole_llm_interest.errors import DataError, StorageError
from recbole_llm_interest.io.files import make_folder, storage_error, sync_folder, write_atomically
from recbole_llm_interest.io.opening import FileKind, name_fault, parse_json, read_bytes

#: name of a manifest in ``checkpoint_dir``
MANIFEST = "artifacts.jsonl"
#: kinds of recorded files
Kind = Literal[
    "checkpoint",
    "resume state",
    "log",
    "table",
    "tuning",
    "report",
    "export",
    "user state",
    "features",
    "saved data set",
    "grown data set",
    "event store",
    "dead letters",
    "recommendations",
    "recommendation parts",
    "embeddings",
]
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_STATE_FOLDER = Path("recbole_llm_interest")
_MANIFEST_FILE = FileKind("manifest", DataError, 2**30, "move it to another folder")


@dataclass(frozen=True)
class Artifact:
    """A file or folder that the package has written.

    Attributes:
        path: of the file, absolute.
        kind: what it is.
        dataset: name of the data set that it was made from.
        data_path: folder of that data set, absolute; None if it is unknown, as for a model from another machine.
        run: name of the model that was trained, or path of the checkpoint that it was made from.

    Example:
        >>> log = Artifact(Path("/runs/log/Pop.log"), "log", "daily", Path("/runs/data/daily"), "Pop")
        >>> log.is_of(Path("/other/data/daily"))
        False
    """

    path: Path
    kind: Kind
    dataset: str
    data_path: Path | None
    run: str = ""

    def is_of(self, data_path: Path) -> bool:
        """Return whether it was made from the data set in this folder. Names of data sets are not unique."""
        return self.data_path is not None and _same_path(self.data_path, data_path)


_ARTIFACT = TypeAdapter(Artifact)


def absolute(path: Path) -> Path:
    """Return an absolute path. Links among its parents are resolved; the file itself may be a link."""
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


def record(folder: Path, artifacts: Iterable[Artifact], hint: str = "") -> None:
    """Record artefacts in the manifest of ``folder``, and the manifest in this user's index.

    Existing lines are not repeated. The lines are on the disk when this returns.

    Args:
        folder: ``checkpoint_dir``.
        artifacts: what is about to be written.
        hint: what else a user can do if the manifest cannot be written.

    Raises:
        StorageError: the manifest cannot be written.
    """
    manifest = absolute(folder / MANIFEST)
    lines = [_line(artifact) for artifact in artifacts]
    with suppress(OSError):  # without an index, a manifest is found by its checkpoint_dir alone
        _record_for_user(manifest, lines)
    try:
        _append(manifest, lines)
    except OSError as error:
        if not set(lines) <= set(_lines_of(manifest)):
            raise storage_error(folder / MANIFEST, error, hint) from error


def _record_for_user(manifest: Path, lines: Sequence[bytes]) -> None:
    """Add a manifest that is about to be written to this user's index.

    A manifest that exists and is not in the index may have come with a downloaded folder. To index it would be to trust
    its lines about files elsewhere. Its new lines are then also written to a manifest of this user, which is indexed.

    Raises:
        OSError: the index cannot be written.
    """
    if (index := index_file()) is None:
        return
    if os.path.lexists(manifest) and manifest not in known_manifests():
        manifest = index.with_name(MANIFEST)
        _append(manifest, lines)
    _append(index, [json.dumps(str(manifest)).encode()])


def record_run(config: Any, kind: Kind, paths: Iterable[Path]) -> None:
    """Record what a run is about to write, in the manifest of its ``checkpoint_dir``.

    Args:
        config: RecBole's configuration of the run.
        kind: of the files.
        paths: of the files.

    Raises:
        StorageError: the manifest cannot be written.
    """
    dataset, data_path, model = config["dataset"], absolute(Path(config["data_path"])), str(config["model"])
    artifacts = [Artifact(absolute(path), kind, dataset, data_path, model) for path in paths]
    record(Path(config["checkpoint_dir"]), artifacts, "set checkpoint_dir to another folder")


def record_made_from(source: Artifact, kind: Kind, paths: Sequence[Path]) -> None:
    """Record files to be made from another artefact, beside that artefact or, if that fails, beside themselves.

    Args:
        source: such as a checkpoint.
        kind: of the files.
        paths: of the files.
    """
    if paths:
        made = [replace(source, path=absolute(path), kind=kind, run=str(source.path)) for path in paths]
        record_beside([_place(source), _place(made[0])], made)


def _place(artifact: Artifact) -> Path:
    """Return the folder of the manifest for a file. For an exported folder, which may be published, it is outside."""
    return artifact.path.parent.parent if artifact.kind == "export" else artifact.path.parent


def record_beside(folders: Sequence[Path], artifacts: Sequence[Artifact]) -> None:
    """Record artefacts in the first writable one of ``folders``, or log that ``forget`` will not find them.

    Used for files whose folder may be the only writable one.
    """
    for folder in folders:
        with suppress(StorageError):
            return record(folder, artifacts)
    for artifact in filter(_can_be_written, artifacts):
        logging.getLogger(__name__).warning(
            "%s is not in a manifest, because %s cannot be written: the forget command will not find it",
            artifact.path,
            folders[0] / MANIFEST,
        )
    return None


def _can_be_written(artifact: Artifact) -> bool:
    """Return whether it can probably be written; if not, a warning that it is not recorded is not needed."""
    existing = next(path for path in (artifact.path, *artifact.path.parents) if os.path.lexists(path))
    return os.access(existing, os.W_OK)


def read(manifest: Path) -> list[Artifact]:
    """Return what a manifest records; nothing if there is none.

    An incomplete line of a killed process is skipped: its artefact was not written.

    Raises:
        DataError: the manifest cannot be read.
    """
    return [artifact for line in _lines_of(manifest) if (artifact := _parse(line)) is not None]


def drop(manifest: Path, paths: Iterable[Path]) -> None:
    """Remove the records of ``paths`` from a manifest.

    Raises:
        StorageError: the manifest cannot be written; it is unchanged.
    """
    dropped = set(paths)
    with _locked(manifest) as handle:
        lines = os.pread(handle, os.fstat(handle).st_size, 0).splitlines()
        kept = [line for line in lines if (artifact := _parse(line)) is None or artifact.path not in dropped]
        if len(kept) < len(lines):
            write_atomically(manifest, lambda file: file.writelines(line + b"\n" for line in kept))


def index_file() -> Path | None:
    """Return the list of this user's manifests; None for a user without a home."""
    state = os.environ.get("XDG_STATE_HOME", "")
    with suppress(RuntimeError):
        return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / _STATE_FOLDER / "manifests"
    return None


def known_manifests() -> list[Path]:
    """Return the existing manifests in this user's index."""
    index = index_file()
    found: list[Path] = []
    if index is not None:
        with suppress(DataError, ValueError):
            names = [parse_json(line.decode("ascii")) for line in _lines_of(index)]
            found = [Path(name) for name in names if isinstance(name, str) and os.path.isfile(name)]
    return found


def find_record(path: Path) -> Artifact | None:
    """Return the last record of a file, from the manifest beside it or this user's manifests; None without one."""
    return _find(absolute(path), [absolute(path).with_name(MANIFEST), *known_manifests()])


def source_of(path: Path, dataset: str) -> Artifact:
    """Return the record of a file from which others are made, or a new one with only the name of its data set.

    Args:
        path: such as a checkpoint.
        dataset: name of the data set that the file contains.
    """
    return find_record(path) or Artifact(absolute(path), "checkpoint", dataset, None)


def _find(path: Path, manifests: Iterable[Path]) -> Artifact | None:
    for manifest in manifests:
        with suppress(DataError):
            for artifact in reversed(read(manifest)):
                if artifact.path == path:
                    return artifact
    return None


def recorded_data_path(checkpoint: Path) -> Path | None:
    """Return the ``data_path`` that a checkpoint was trained with, if this user trained it; None if it is unknown.

    It is not read from the checkpoint, because a file must not name other files to read. A path below the current
    folder is returned as a relative path, like the paths in the training's messages.
    """
    found = _find(absolute(checkpoint), known_manifests())
    if found is None or found.data_path is None:
        return None
    here, data_path = Path.cwd(), found.data_path.parent
    return data_path.relative_to(here) if data_path.is_relative_to(here) else data_path


def _line(artifact: Artifact) -> bytes:
    written = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(artifact).items()}
    return json.dumps(written).encode()  # escaped: a path that is not UTF-8 has lone surrogates


def _parse(line: bytes) -> Artifact | None:
    try:
        artifact = _ARTIFACT.validate_python(parse_json(line.decode("ascii")))
    except ValueError:  # includes pydantic's ValidationError
        return None
    fault = name_fault(artifact.path) or (artifact.data_path and name_fault(artifact.data_path))
    return artifact if artifact.path.is_absolute() and not fault else None


def _lines_of(path: Path) -> list[bytes]:
    return read_bytes(path, _MANIFEST_FILE).splitlines() if os.path.lexists(path) else []


def _append(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines that the file does not have, in one write, after completing an incomplete last line."""
    make_folder(path.parent)
    with _locked(path) as handle:
        present = os.pread(handle, os.fstat(handle).st_size, 0)
        known = set(present.splitlines())
        added = [line for line in dict.fromkeys(lines) if line not in known]
        if not added:
            return
        start = b"" if present.endswith(b"\n") or not present else b"\n"
        data = start + b"".join(line + b"\n" for line in added)
        if os.write(handle, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    sync_folder(path.parent)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open and lock a file for appending. It is opened again if another process has replaced it meanwhile.

    A link is an error: in a downloaded folder, it may lead to any file of this user.
    """
    while True:
        handle = os.open(path, _APPENDING, 0o666)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                yield handle
                return
        finally:
            os.close(handle)


def _same_path(one: Path, other: Path) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
