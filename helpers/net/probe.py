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


def leads_home(host: str) -> bool:
    """Whether `host`, an IP address or "localhost", is this machine or link-local, where clouds serve credentials."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # resolvers take 127.1, 2130706433 and 0x7f.1, too
        except (OSError, ValueError):  # a name
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified


def addresses_of(host: str) -> list[str]:
    """The IP addresses of a host's name; none if it is unknown."""
    try:
        return [str(address[0]) for *_, address in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return []
