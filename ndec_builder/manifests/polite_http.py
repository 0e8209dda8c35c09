"""Polite requests to one host: a single connection, a pause between requests, retries with backoff, a size limit."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader, MaxRetryError

from ndec_builder.core.access.hosts import PrivateAddressError, public_only
from ndec_builder.manifests.settings import FetchConfig
from ndec_builder.version import __version__

PIECE = 65_536
BACKOFF = 1.0  # seconds before the second retry, doubled for each further one; the first one follows at once
RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)
GONE = (404, 410)
REDIRECT = (301, 302, 303, 307, 308)


class Refused(Exception):
    """The image cannot be downloaded: state (gone, refused, failed) and why."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.state, self.detail = state, detail


class RetryableError(Exception):
    """A temporary failure; `wait`: seconds that the host asks for, if it does."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class Answer:
    body: bytes
    location: str | None  # of a redirect


class Host:
    """All requests to one host. Threads take turns, so that the host gets one request at a time."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._session = requests.Session()
        adapter = public_only(lambda scheme, host, port: host in config.allow)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)
        self._session.trust_env = False  # no netrc: never send a user's password to a host that a table names
        agent = f"ndec/{__version__}" + (f" ({config.contact})" if config.contact else "")
        self._session.headers.update(
            {"User-Agent": agent, "Accept": "image/*,*/*;q=0.1", "Accept-Encoding": "identity"}
        )

    def get(self, url: str) -> Answer:
        """Return the answer at a URL. Raises Refused when it is gone, refused, or failed after all retries."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise Refused("refused", f"{urlsplit(url).scheme or 'no'} scheme: only http and https are fetched")
        with self._lock:
            retry = Retry(total=self.config.retries, backoff_factor=BACKOFF, backoff_max=self.config.max_wait)
            while True:
                try:
                    return self._once(url)
                except RetryableError as error:
                    try:
                        retry = retry.increment("GET", url)
                    except MaxRetryError:
                        raise Refused("failed", f"{error}, {self.config.retries + 1} tries") from None
                    wait = retry.get_backoff_time() if error.wait is None else error.wait
                time.sleep(min(wait, self.config.max_wait))

    def _once(self, url: str) -> Answer:
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        try:
            with self._session.get(url, stream=True, allow_redirects=False, timeout=self.config.timeout) as answer:
                code = answer.status_code
                if code in REDIRECT and "Location" in answer.headers:
                    return Answer(b"", urljoin(url, answer.headers["Location"]))
                if code in GONE:
                    raise Refused("gone", f"HTTP {code}")
                if code in RETRY_STATUS:
                    raise RetryableError(f"HTTP {code}", retry_after(answer.headers.get("Retry-After")))
                if code != 200:
                    raise Refused("refused", f"HTTP {code}")
                return Answer(self._body(answer), None)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, UnicodeError) as error:
            raise Refused("refused", f"no usable address: {error}") from None
        except PrivateAddressError as error:
            raise Refused("refused", f"{error}; `--allow {urlsplit(url).hostname}` permits it") from None
        except requests.RequestException as error:
            raise RetryableError(type(error).__name__) from None
        finally:
            self._free_at = time.monotonic() + self.config.delay

    def _body(self, answer: requests.Response) -> bytes:
        limit = self.config.max_megabytes * 10**6
        length = _number(answer.headers.get("Content-Length", ""))
        if length is not None and length > limit:
            raise Refused("refused", f"{length:,} bytes, the limit is {limit:,}")
        body = bytearray()
        for piece in answer.iter_content(PIECE):
            body += piece
            if len(body) > limit:
                raise Refused("refused", f"more than {limit:,} bytes")
        if length is not None and len(body) < length:
            raise RetryableError(f"{len(body):,} of {length:,} bytes arrived")
        return bytes(body)


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date); None when it is absent or unreadable."""
    try:
        return None if value is None else float(Retry().parse_retry_after(value))
    except (InvalidHeader, ValueError, OverflowError):  # not a date, or a number or year out of range
        return None


def _number(text: str) -> int | None:
    """The integer in a header; None for anything else, and for more than 18 digits."""
    text = text.strip()
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None
