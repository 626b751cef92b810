"""Whether the hub can be reached, found out in seconds rather than in its client's minutes of retries."""

import os
import socket
import sys
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

PATIENCE_S = 3.0


def prefer_cache_when_offline() -> bool:
    """If the hub cannot be reached, let its client look in its cache alone; whether that is so.

    Call it before huggingface_hub, or what imports it, is used. With a proxy set nothing is tried.
    """
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return True
    if "https" in getproxies() or _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        return False
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is None:  # reads the variable when it is imported
        os.environ["HF_HUB_OFFLINE"] = "1"
    else:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    return True


def _reachable(address: str) -> bool:
    """Whether somebody answers there. In a thread: looking up a name knows no time limit."""
    place, answered = urlsplit(address), []

    def connect() -> None:
        try:
            port = place.port or (80 if place.scheme == "http" else 443)
            with socket.create_connection((place.hostname or "", port), timeout=PATIENCE_S):
                answered.append(True)
        except (OSError, ValueError):
            pass

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return bool(answered)
