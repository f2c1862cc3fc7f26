"""Checks that the encoders of a run can be used, before its content is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS, check_named_columns
from recbole_llm_interest.content.content_files import ContentFiles
from recbole_llm_interest.content.dataset_files import feature_cache
from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.content.text_template import text_columns, text_writer
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_header
from recbole_llm_interest.settings import MODALITIES, ContentSettings, Modality, read_settings

_ID_FIELDS = {"item": "ITEM_ID_FIELD", "user": "USER_ID_FIELD"}


def check_encoders(config: Any) -> None:
    """Check that the weights of each encoder are there, and its packages if nothing has been encoded yet.

    An encoder is left out where the files of the data set have no content for it, where features of theirs are
    precomputed, and where weights may be downloaded: the run itself then finds what is missing.

    Args:
        config: RecBole's settings of the data set.

    Raises:
        EncoderError: weights or a package are missing.
        DataError: a file of content has no valid header.
    """
    settings = read_settings(ContentSettings, config)
    if settings.download_weights:
        return
    for modality in MODALITIES:
        if modality not in settings.modalities:
            continue
        encoded_kinds = [kind for kind in _ID_FIELDS if _is_encoded(config, settings, kind, modality)]
        if encoded_kinds:
            encoder = create_encoder(modality, settings)
            if not any(feature_cache(config, settings).glob(f"{modality}-*")):
                encoder.prepare()


def _is_encoded(config: Any, settings: ContentSettings, kind: str, modality: Modality) -> bool:
    """Whether an encoder reads a column of the file of items or users; of JSON lines, the first row has the columns.

    Raises:
        DataError: a setting names a column that the file does not have.
    """
    if getattr(settings, f"{kind}_{modality}_features") is not None:
        return False
    id_field, layout = config[_ID_FIELDS[kind]], AtomicFormat.from_config(config)
    files = ContentFiles(Path(config["data_path"]), config["dataset"], kind, id_field, layout, strict=False)
    if files.path is None:
        return False
    columns = read_header(files.path, layout) if files.path == files.atomic else next(files.rows(), {})
    if modality == "text" and files.path == files.atomic:  # later rows of JSON lines may have other columns
        fields, template = (getattr(settings, f"{kind}_text_{form}") for form in ("fields", "template"))
        _, named = text_writer(kind, id_field, fields, template)
        setting = f"{kind}_text_fields" if template is None else f"{kind}_text_template"
        check_named_columns(setting, named, dict.fromkeys(columns), files.path)
    return bool(text_columns(columns, id_field)) if modality == "text" else MEDIA_COLUMNS[modality] in columns
