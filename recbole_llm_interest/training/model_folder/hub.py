"""Finds the folder of a pretrained model: on this machine, in the Hub's cache, or on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.opening import is_folder, shown_path

#: seconds to wait for the Hub's first response
_TIMEOUT = 2


def find_folder(name: str, revision: str | None, files: Sequence[str], download: bool) -> Path:
    """The folder of a model.

    Args:
        name: of a folder, or of a model on the Hub.
        revision: of the model on the Hub; None for the newest.
        files: names of the files to fetch, no others.
        download: whether the Hub may be asked. Its cache on this machine is searched anyway.

    Raises:
        CheckpointError: there is no such folder or model, or the Hub did not give it.
    """
    if is_folder(Path(name)):
        return Path(name)
    shown = shown_path(Path(name))
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError as error:
        raise CheckpointError(
            f"there is no folder {shown}, and the Hub needs huggingface_hub: pip install 'recbole_llm_interest[export]'"
        ) from error
    try:
        validate_repo_id(name)
    except (HFValidationError, UnicodeError) as error:
        raise CheckpointError(f"there is no folder {shown}, and it is not the name of a model on the Hub") from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
    except Exception as error:  # not in the cache
        if not download:
            raise CheckpointError(
                f"there is no folder {shown}, the Hub's cache has no such model, and the Hub is not asked unless "
                "download_weights=True"
            ) from error
    try:
        # without this request, snapshot_download waits without a limit where a firewall drops the response
        commit = HfApi().repo_info(name, revision=revision, timeout=_TIMEOUT).sha
        return Path(snapshot_download(name, revision=commit, allow_patterns=files))
    except Exception as error:
        raise CheckpointError(f"the Hub did not give the model {name} ({type(error).__name__})") from error
