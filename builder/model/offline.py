"""Whether the network may be used, which huggingface_hub's own HF_HUB_OFFLINE decides; `--offline` sets it."""

import os
import sys

VARIABLE = "HF_HUB_OFFLINE"
YES = {"1", "ON", "YES", "TRUE"}


def go_offline() -> None:
    """Use no network from now on, in this process and in those that it starts."""
    os.environ[VARIABLE] = "1"
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]  # it read the variable when it was imported


def is_offline() -> bool:
    """Whether the network must not be used."""
    constants = sys.modules.get("huggingface_hub.constants")
    told = os.environ.get(VARIABLE, "").upper() in YES
    return bool(getattr(constants, "HF_HUB_OFFLINE", told)) if constants else told
