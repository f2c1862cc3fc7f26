"""What manifests say of the files around a data set: which were made from it, and which from others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_llm_interest.erasure.request import Erasure
from recbole_llm_interest.io.manifest import MANIFEST, Artifact, absolute, drop, known_manifests, read

#: suffixes of files that may hold what was learned or stored, without an id that can be searched for
_OPAQUE = {".pth", ".pt", ".pt2", ".onnx", ".safetensors", ".bin", ".pkl", ".pickle", ".npy", ".npz", ".ckpt"}


@dataclass(frozen=True)
class Inventory:
    """Files by what manifests say of them.

    Attributes:
        folder: of the data set.
        own: made from this data set alone.
        shared: made from this data set and from others, one record of each path.
        doubtful: made from a data set of this name whose folder is unknown or gone.
        foreign: paths made from other data sets alone.
        manifests: that were read.
    """

    folder: Path
    own: list[Artifact]
    shared: list[Artifact]
    doubtful: list[Artifact]
    foreign: set[Path]
    manifests: list[Path]

    @classmethod
    def take(cls, folder: Path, dataset: str, checkpoint_dir: Path) -> Inventory:
        """Read the manifests of this user, and that of ``checkpoint_dir``.

        The latter may have come with a downloaded folder: it is believed of files inside its folder only.

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
        is_own = {path: Artifact(path, "log", "", path).is_of(folder) for path in _data_paths(by_path.values())}
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
            self.doubtful.append(records[-1])
        else:
            self.foreign.add(path)

    def leave_uncertain(self, erasure: Erasure) -> None:
        """Say of files that may also be another data set's that they are left."""
        for artifact in self.shared:
            if artifact.path.exists():
                erasure.leave(artifact.path, "was made from another data set, too: delete it if nobody needs it")
        for artifact in self.doubtful:
            if artifact.path.exists():
                place = "an unknown folder" if artifact.data_path is None else f"{artifact.data_path}, which is gone"
                why = f"was made from a data set {artifact.dataset!r} in {place}: delete it if that was this one"
                erasure.leave(artifact.path, why)

    def unrecorded(self, folder: Path) -> Iterator[Path]:
        """Yield the files below a folder that no manifest has, except in folders of data sets."""
        recorded = {artifact.path for artifact in (*self.own, *self.shared, *self.doubtful)} | self.foreign
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name == MANIFEST or _is_lock(path) or self._is_data(path, folder):
                continue
            if recorded.isdisjoint((absolute(path), *absolute(path).parents)):
                yield path

    def _is_data(self, path: Path, below: Path) -> bool:
        """Whether a file below a folder is in the data sets' folder, which is below that folder, too."""
        data_path = self.folder.resolve().parent
        return path.resolve().is_relative_to(data_path) and not below.resolve().is_relative_to(data_path)

    def leave_unrecorded(self, folder: Path, erasure: Erasure) -> None:
        """Say of files in ``checkpoint_dir`` that no manifest has, and that cannot be searched, that they are left."""
        for path in self.unrecorded(folder):
            if path.suffix in _OPAQUE:
                erasure.leave(path, "is in no manifest: delete it if it was made from this data set")

    def forget_deleted(self) -> None:
        """Remove the lines of files that are deleted from the manifests."""
        gone = [artifact.path for artifact in self.own if not artifact.path.exists() and artifact.kind != "features"]
        if gone:
            for manifest in self.manifests:
                drop(manifest, gone)


def _data_paths(records: Iterable[Sequence[Artifact]]) -> set[Path]:
    return {record.data_path for several in records for record in several if record.data_path is not None}


def _is_lock(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".lock")
