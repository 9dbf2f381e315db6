"""What to find out about a server before using it: is it there, and is it this machine?"""

import ipaddress
import queue
import socket
import threading

import requests
from urllib3.exceptions import NewConnectionError

from helpers.net.answers import innermost

PROBE_TIMEOUT_SECONDS = 4.0


def probe(
    url: str,
    user_agent: str,
    connect_timeout: float = PROBE_TIMEOUT_SECONDS,
    within: float = PROBE_TIMEOUT_SECONDS,
) -> int | None:
    """Send one HEAD to `url` and return the HTTP status; 0 if a server is there but does not answer properly.

    None if its name is unknown, nothing listens there, or there is no result within `within` seconds: a silent name
    server, or several silent addresses, would block requests for longer than any timeout of their own. There is no
    retry, so that a run that can't work ends within seconds.
    """
    answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    timeout = (connect_timeout, PROBE_TIMEOUT_SECONDS)
    ask = threading.Thread(target=lambda: answers.put(_head_status(url, user_agent, timeout)), daemon=True)
    ask.start()
    try:
        return answers.get(timeout=within)
    except queue.Empty:
        return None


def _head_status(url: str, user_agent: str, timeout: tuple[float, float]) -> int | None:
    try:
        with requests.head(url, timeout=timeout, allow_redirects=False, headers={"User-Agent": user_agent}) as answer:
            return answer.status_code
    except requests.ConnectTimeout:
        return None
    except requests.ConnectionError as error:
        return None if isinstance(innermost(error), NewConnectionError) else 0
    except (requests.RequestException, ValueError, OSError):  # OSError: certificates that can't be read
        return 0


def leads_home(host: str, *, look_up: bool) -> bool:
    """Whether `host` is this machine, or a link-local address, where clouds serve credentials.

    `look_up` resolves names; a proxy, if there is one, does that itself. An unknown name is neither.
    """
    try:
        found = socket.getaddrinfo(host, None, flags=0 if look_up or host == "localhost" else socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return any(a.is_loopback or a.is_link_local or a.is_unspecified for a in addresses)
