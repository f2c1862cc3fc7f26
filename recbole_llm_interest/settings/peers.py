"""The models of another library that a comparison takes, and the settings that are theirs."""

from __future__ import annotations

#: names of models before those in RecTools
PEER_PREFIX = "rectools:"
#: beginning of the settings that are arguments of a model in RecTools, which checks them itself
PEER_SETTING = "rectools_"
#: the models by their names in a comparison, and whether they read the content of items
PEERS = {f"{PEER_PREFIX}{name}": name == "UniSRec" for name in ("SASRec", "eSASRec", "HSTU", "UniSRec")}
