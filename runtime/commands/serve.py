"""`serve`, and no arguments at all: the engine is started, then the front is imported and served."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mkllm.runtime.options import address, api_keys, engine_options, log_settings
from mkllm.runtime.session import Session, start_session
from mkllm.runtime.signals import Terminated

if TYPE_CHECKING:
    from mkllm.runtime.launch import FrontSettings


def run(given: Mapping[str, Any], extra: tuple[str, ...]) -> int:
    """Serve until told to stop; the exit code, 0 for a stop by signal."""
    keys = api_keys(given)
    try:
        with start_session(engine_options(given, extra), given["kernel"], log_settings(given)) as session:
            from mkllm.runtime.front.serve import serve
            from mkllm.runtime.launch import Launch

            return serve(
                Launch(
                    artifact=session.artifact,
                    front=front_settings(given, keys, session),
                    engine=session.engine,
                    ranking=session.ranking,
                    model_id=session.model_id,
                    context=session.fit.context,
                )
            )
    except (KeyboardInterrupt, Terminated):
        return 0


def front_settings(given: Mapping[str, Any], keys: tuple[str, ...], session: Session) -> "FrontSettings":
    """What the command line and the manifest say about the public port."""
    from mkllm.runtime.launch import FrontSettings

    host, port = address(given, session.manifest.defaults)
    return FrontSettings(
        host=host,
        port=port,
        api_keys=keys,
        allow_hosts=given["allow_hosts"],
        allow_origins=given["allow_origins"],
        max_body=given["max_body"],
        open_browser=not given["no_browser"],
        verbose=given["verbose"],
        notes=session.notes,
        only_port=given["only_port"],
    )
