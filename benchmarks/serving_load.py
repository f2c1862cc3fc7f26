"""What locust sends to a service: 80 % events, 20 % lists, of 10,000 users. Run by ``serving.py``."""

from __future__ import annotations

import os
import random

from locust import FastHttpUser, task

USERS = int(os.environ.get("SERVED_USERS", "10000"))
ITEMS = int(os.environ["SERVED_ITEMS"])


class Shopper(FastHttpUser):
    """Sends one request after the other."""

    host = os.environ["SERVED_AT"]

    @task(8)
    def choose(self) -> None:
        """Send an event."""
        event = {"item": f"i{random.randrange(ITEMS)}"}
        self.client.post(f"/users/u{random.randrange(USERS)}/events", json=event, name="event")

    @task(2)
    def look(self) -> None:
        """Ask for a list."""
        self.client.get(f"/users/u{random.randrange(USERS)}/recommendations?k=10", name="list")
