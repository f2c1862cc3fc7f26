"""Finds, by the manifests, which files were made from a data set and which from others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_llm_interest.erasure.request import Erasure
from recbole_llm_interest.io.manifest import MANIFEST, Artifact, absolute, drop, known_manifests, read

#: suffixes of binary files in which an id cannot be searched for
_OPAQUE = {".pth", ".pt", ".pt2", ".onnx", ".safetensors", ".bin", ".pkl", ".pickle", ".npy", ".npz", ".ckpt"}


@dataclass(frozen=True)
class Inventory:
    """Recorded files, grouped by their data sets.

    Attributes:
        folder: of the data set.
        own: made only from this data set.
        shared: made from this data set and from others, one record for each path.
        ambiguous: made from a data set of this name whose folder is unknown or no longer exists.
        foreign: made only from other data sets.
        manifests: that were read.
    """

    folder: Path
    own: list[Artifact]
    shared: list[Artifact]
    ambiguous: list[Artifact]
    foreign: set[Path]
    manifests: list[Path]

    @classmethod
    def from_manifests(cls, folder: Path, dataset: str, checkpoint_dir: Path) -> Inventory:
        """Read the manifests of this user, and that of ``checkpoint_dir``.

        The latter may be part of a downloaded folder: only its records of files inside that folder are used.

        Args:
            folder: of the data set.
            dataset: its name.
            checkpoint_dir: of the settings.

        Raises:
            DataError: a manifest cannot be read.
        """
        local = absolute(checkpoint_dir / MANIFEST)
        known = known_manifests()
        manifests = known if local in known or not local.is_file() else [*known, local]
        by_path: dict[Path, list[Artifact]] = {}
        for manifest in manifests:
            for artifact in read(manifest):
                if manifest in known or artifact.path.is_relative_to(manifest.parent):
                    by_path.setdefault(artifact.path, []).append(artifact)
        inventory = cls(folder, [], [], [], set(), manifests)
        is_own = _own_data_paths(folder, [record for records in by_path.values() for record in records])
        for path, records in by_path.items():
            inventory._sort(path, records, dataset, is_own)
        return inventory

    def _sort(self, path: Path, records: Sequence[Artifact], dataset: str, is_own: dict[Path, bool]) -> None:
        own = [record for record in records if record.data_path is not None and is_own[record.data_path]]
        if own:
            (self.own if len(own) == len(records) else self.shared).append(own[-1])
        elif any(
            record.dataset == dataset and (record.data_path is None or not record.data_path.exists())
            for record in records
        ):
            self.ambiguous.append(records[-1])
        else:
            self.foreign.add(path)

    def leave_ambiguous(self, erasure: Erasure) -> None:
        """Report files that may also belong to another data set as left."""
        for artifact in self.shared:
            if artifact.path.exists():
                erasure.leave(artifact.path, "was also made from another data set: delete it if it is not needed")
        for artifact in self.ambiguous:
            if artifact.path.exists():
                place = (
                    "an unknown folder" if artifact.data_path is None else f"{artifact.data_path}, which does not exist"
                )
                why = f"was made from a data set {artifact.dataset!r} in {place}: delete it if it was this data set"
                erasure.leave(artifact.path, why)

    def unrecorded(self, folder: Path) -> Iterator[Path]:
        """Yield files below a folder that no manifest lists, except those in folders of data sets."""
        recorded = {artifact.path for artifact in (*self.own, *self.shared, *self.ambiguous)} | self.foreign
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name == MANIFEST or _is_lock(path) or self._is_data(path, folder):
                continue
            if recorded.isdisjoint((absolute(path), *absolute(path).parents)):
                yield path

    def _is_data(self, path: Path, below: Path) -> bool:
        """Return whether a file is in ``data_path``, where ``data_path`` is itself below the folder."""
        data_path = self.folder.resolve().parent
        return path.resolve().is_relative_to(data_path) and not below.resolve().is_relative_to(data_path)

    def leave_unrecorded(self, folder: Path, erasure: Erasure) -> None:
        """Report binary files in ``checkpoint_dir`` that no manifest lists as left."""
        for path in self.unrecorded(folder):
            if path.suffix in _OPAQUE:
                erasure.leave(path, "is not in a manifest: delete it if it was made from this data set")

    def drop_deleted(self) -> None:
        """Remove deleted files from the manifests."""
        gone = [artifact.path for artifact in self.own if not artifact.path.exists() and artifact.kind != "features"]
        if gone:
            for manifest in self.manifests:
                drop(manifest, gone)


def _own_data_paths(folder: Path, records: Sequence[Artifact]) -> dict[Path, bool]:
    """Whether each recorded data set is this one, or grew from it, or from one that did."""
    paths = {record.data_path for record in records if record.data_path is not None}
    is_own = {path: Artifact(path, "log", "", path).is_of(folder) for path in paths}
    grown = [record for record in records if record.kind == "grown data set"]
    for _ in grown:  # each may have grown from any other
        for record in grown:
            if record.data_path is not None and is_own[record.data_path]:
                is_own[record.path.parent] = True
    return is_own


def _is_lock(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".lock")
