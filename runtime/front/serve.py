"""Serves one launch: the port first, so that it is open at once, then everything that takes time to import."""

import asyncio

from mkllm.runtime.front.console import Console
from mkllm.runtime.front.listen import listen
from mkllm.runtime.front.stop import Stop
from mkllm.runtime.launch import Launch
from mkllm.runtime.platform.desktop import open_page


def serve(launch: Launch) -> int:
    """Serve until told to stop; returns the exit code. Raises CannotListen, or what the engine ended with for good."""
    stop = Stop()
    console = Console(launch)
    listening = listen(launch.front.host, launch.front.port, launch.front.only_port)
    try:
        console.banner(listening)
        from mkllm.runtime.front.server import run

        if launch.front.open_browser and not launch.manifest.model.pooling:
            open_page(listening.url)
        asyncio.run(run(launch, listening, stop, console))
    finally:
        listening.close()
        console.end()
    return 0
