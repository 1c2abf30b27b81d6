"""Where a command goes: to the cluster itself or to the Session API, whose key never is an argument."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sessionctl.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionctl.cli.run import GlobalOptions

URL: Final = "SESSIONCTL_API_URL"
KEY: Final = "SESSIONCTL_API_KEY"
KEY_FILE: Final = "SESSIONCTL_API_KEY_FILE"
MOST_KEY_BYTES: Final = 4096


def api_url(given: GlobalOptions, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the URL of the Session API; None for the cluster itself, which every option that names it means."""
    if given.kubeconfig is not None or given.context is not None or given.platform_namespace is not None:
        return None
    return environment.get(URL) or None


def read_key(environment: Mapping[str, str] = os.environ) -> str:
    """Return the API key; raises InvalidRequestError, in which no key is quoted."""
    key, file = environment.get(KEY), environment.get(KEY_FILE)
    if key and file:
        raise InvalidRequestError(f"both {KEY} and {KEY_FILE} are set", hint="Unset one of them.")
    if key:
        return key
    if not file:
        msg = f"{URL} is set, but no API key"
        raise InvalidRequestError(msg, hint=f"Set {KEY_FILE} to a file that holds it, or {KEY}.")
    try:
        with open(file, encoding="ascii") as opened:  # noqa: PTH123 - pathlib would have to be imported
            return opened.read(MOST_KEY_BYTES)
    except OSError as error:
        msg = f"{KEY_FILE}: {file} cannot be read: {error.strerror}"
    except ValueError:
        msg = f"{KEY_FILE}: {file} holds no API key"
    raise InvalidRequestError(msg, hint="It holds the key alone, as apikey create printed it.")


def refuse_api(command: str) -> InvalidRequestError:
    """Return the error for a command that works on the cluster itself only."""
    msg = f"{command} works on the cluster itself, not through the API that {URL} names"
    return InvalidRequestError(msg, hint=f"Unset {URL}, or name the cluster: sessionctl --kubeconfig FILE ...")
