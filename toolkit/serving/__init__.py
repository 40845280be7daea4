"""A model as a server: OpenAI's completions over HTTP, many clients in one batch.

    app = make_app(generator, name="first")  # an ASGI app, for any server of such
    run_server(app, listen("127.0.0.1", 8000))  # or for uvicorn, in this process

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingExtraError

if TYPE_CHECKING:
    from toolkit.serving.app import make_app as make_app
    from toolkit.serving.limits import Limits as Limits
    from toolkit.serving.scheduler import Scheduler as Scheduler
    from toolkit.serving.server import hosts_of as hosts_of
    from toolkit.serving.server import is_loopback as is_loopback
    from toolkit.serving.server import listen as listen
    from toolkit.serving.server import run_server as run_server
    from toolkit.serving.server import url_of as url_of

_HOME = {
    "app": ("make_app",),
    "limits": ("Limits",),
    "scheduler": ("Scheduler",),
    "server": ("hosts_of", "is_loopback", "listen", "run_server", "url_of"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}
_PACKAGES = ("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn")

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.serving' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(f"toolkit.serving.{_WHERE[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in _PACKAGES:
            raise MissingExtraError("serve", "A server") from error
        raise
