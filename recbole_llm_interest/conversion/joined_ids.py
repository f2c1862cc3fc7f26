"""The ids of users and items in a data set that is joined of several."""

from __future__ import annotations

from collections import Counter

from recbole_llm_interest.conversion.options import ID_MODES
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS


class JoinedIds:
    """Ids as they are written.

    Args:
        mode: one of ``options.ID_MODES``.

    Raises:
        SettingsError: it is another one.

    Example:
        >>> JoinedIds("prefixed").of("shop", "item", "i1")
        'shop:i1'
    """

    def __init__(self, mode: str) -> None:
        if mode not in ID_MODES:
            raise SettingsError(f"ids={mode!r}: give one of {', '.join(ID_MODES)}")
        self._mode = mode
        self._data_sets: dict[tuple[str, str], set[str]] = {}
        self._described: dict[str, set[str]] = {}

    def of(self, data_set: str, kind: str, token: str) -> str:
        """Return the new id.

        Args:
            data_set: that has it.
            kind: user or item.
            token: the id there.

        Raises:
            DataError: another data set has it, too, and ids are said to be unique; or it becomes too long.
        """
        if self._mode == "prefixed":
            token = f"{data_set}:{token}"
            if len(token) > MAX_TOKEN_CHARACTERS:
                raise DataError(f"an id of {data_set} is longer than {MAX_TOKEN_CHARACTERS} characters with the prefix")
        having = self._data_sets.setdefault((kind, token), set())
        if data_set not in having:
            if having and self._mode == "unique":
                which = f" ({token!r})" if kind == "item" else ""  # users are not named
                raise DataError(
                    f"{data_set} and {min(having)} have the same {kind} id{which}: give ids=shared if it means the "
                    "same in both, or ids=prefixed to keep them apart"
                )
            having.add(data_set)
        return token

    def is_first(self, kind: str, token: str) -> bool:
        """Return whether nothing was written yet about an item or user in the file of this kind."""
        described = self._described.setdefault(kind, set())
        is_first = token not in described
        described.add(token)
        return is_first

    def shared(self) -> dict[str, int]:
        """Return how many users and items several data sets have."""
        counts = Counter(kind for (kind, _), having in self._data_sets.items() if len(having) > 1)
        return {kind: counts[kind] for kind in ("user", "item")}
