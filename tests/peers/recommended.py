"""Prints, as JSON, what the program of RecTools scores highest and what the library's own ``recommend`` gives.

Runs in the environment of peers. Arguments: name of the model.
"""

from __future__ import annotations

import contextlib
import json
import sys
from unittest.mock import patch

import numpy as np
import pandas as pd
from rectools import models
from rectools.dataset import Dataset
from worker import rectools_models

USERS, LENGTH, ITEMS, K = 30, 6, 25, 5
name = sys.argv[1]
random = np.random.default_rng(0)
users = np.repeat(np.arange(1, USERS + 1), LENGTH)
items = random.integers(1, ITEMS - 3, len(users))  # nobody has the last three
times = 1_000_000_000 + 86_400 * np.tile(np.arange(LENGTH), USERS) + random.integers(0, 80_000, len(users))
start = {"model": name, "settings": {"n_factors": 16, "n_blocks": 1}, "epochs": 5, "length": 4, "items": ITEMS}
start |= {"seed": 1, "threads": 1, "device": "cpu", "has_clock": True}
embeddings = random.standard_normal((ITEMS, 12)).astype(np.float32)
last = items.reshape(USERS, LENGTH)[:, -4:]
request_times = np.full((USERS, 1), times.max() + 3600)
histories = {"histories": last, "times": np.hstack([times.reshape(USERS, LENGTH)[:, -4:], request_times])}


class Script:
    """Asks for two epochs and scores."""

    def __init__(self):
        data = {"users": users, "items": items, "times": times, "embeddings": embeddings}
        self.requests = [(start, data), ({"do": "train"}, {}), ({"do": "train"}, {}), ({"do": "score"}, histories)]
        self.answers = []

    def receive(self):
        if not self.requests:
            raise EOFError
        return self.requests.pop(0)

    def send(self, header, arrays=None):
        self.answers.append((header, arrays))


fitted = []
script = Script()
model_class = models.HSTUModel if name == "HSTU" else models.SASRecModel
fit = model_class.fit


def keep_and_fit(model, *arguments):
    """Keep the model that is fitted."""
    fitted.append(model)
    return fit(model, *arguments)


with patch.object(model_class, "fit", keep_and_fit), contextlib.suppress(EOFError):
    rectools_models.serve(script)
(model,) = fitted
ours = np.argsort(-script.answers[-1][1]["scores"], axis=1, kind="stable")[:, :K]

model.is_fitted = True
dates = pd.to_datetime(times if name == "HSTU" else np.arange(len(times)), unit="s")
events = pd.DataFrame({"user_id": users, "item_id": items, "weight": 1.0, "datetime": dates})
given = {"users": np.arange(1, USERS + 1), "dataset": Dataset.construct(events), "k": K, "filter_viewed": False}
if name == "HSTU":
    moments = pd.to_datetime(request_times[:, 0], unit="s")
    given["context"] = pd.DataFrame({"user_id": given["users"], "datetime": moments, "weight": 1.0})
library = model.recommend(**given).sort_values(["user_id", "rank"])["item_id"].to_numpy().reshape(USERS, K)
sys.stdout.write(json.dumps({"ours": ours.tolist(), "library": library.tolist()}))
