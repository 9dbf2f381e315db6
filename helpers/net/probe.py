"""What can be known of a server before anything is asked of it: is it there, and is it this very machine?"""

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
    """The HTTP status that the server of `url` answers one HEAD with; 0 where it is there but does not answer well.

    None where its name is unknown, nobody listens there, or nothing is known after `within` seconds: a silent name
    server, or several silent addresses, would hold requests up for longer than any timeout of their own. One try, so
    that a run that can't work ends within seconds.
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
    """Whether `host` is this machine, or a link-local address, where clouds keep their credentials.

    A name is looked up unless a proxy will do that; one that is unknown leads nowhere.
    """
    try:
        found = socket.getaddrinfo(host, None, flags=0 if look_up or host == "localhost" else socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return any(a.is_loopback or a.is_link_local or a.is_unspecified for a in addresses)
