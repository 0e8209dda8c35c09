"""One host, asked politely: a single connection, a pause between requests, retries with growing waits, a size limit."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import requests

from ndec_builder.manifests.settings import FetchConfig
from ndec_builder.version import __version__

PIECE = 65_536
FIRST_WAIT = 1.0  # seconds before the first retry, doubled each time, where the host names none
RETRY = (408, 425, 429, 500, 502, 503, 504)
GONE = (404, 410)
REDIRECT = (301, 302, 303, 307, 308)


class Refused(Exception):
    """No image, for good: state (gone, refused, failed) and why."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.state, self.detail = state, detail


class _Again(Exception):
    """Worth another try, after `wait` seconds where the host said so."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class Answer:
    body: bytes
    location: str | None  # of a redirect


class Host:
    """All requests to one host. Threads wait for one another, so that it sees one request at a time."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._session = requests.Session()
        self._session.trust_env = False  # no netrc: nobody's password goes to a host that a table names
        agent = f"ndec/{__version__}" + (f" ({config.contact})" if config.contact else "")
        self._session.headers.update(
            {"User-Agent": agent, "Accept": "image/*,*/*;q=0.1", "Accept-Encoding": "identity"}
        )

    def get(self, url: str) -> Answer:
        """Raises Refused when it is gone, not to be had, or failed after all retries."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise Refused("refused", f"{urlsplit(url).scheme or 'no'} scheme: only http and https are fetched")
        with self._lock:
            for attempt in range(self.config.retries + 1):
                try:
                    return self._once(url)
                except _Again as again:
                    why = str(again)
                    wait = FIRST_WAIT * 2**attempt if again.wait is None else again.wait
                if attempt < self.config.retries:
                    time.sleep(min(wait, self.config.max_wait))
            raise Refused("failed", f"{why}, {self.config.retries + 1} tries")

    def _once(self, url: str) -> Answer:
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        try:
            with self._session.get(url, stream=True, allow_redirects=False, timeout=self.config.timeout) as answer:
                code = answer.status_code
                if code in REDIRECT and "Location" in answer.headers:
                    return Answer(b"", urljoin(url, answer.headers["Location"]))
                if code in GONE:
                    raise Refused("gone", f"HTTP {code}")
                if code in RETRY:
                    raise _Again(f"HTTP {code}", retry_after(answer.headers.get("Retry-After")))
                if code != 200:
                    raise Refused("refused", f"HTTP {code}")
                return Answer(self._body(answer), None)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, UnicodeError) as error:
            raise Refused("refused", f"no usable address: {error}") from None
        except requests.RequestException as error:
            raise _Again(type(error).__name__) from None
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
            raise _Again(f"{len(body):,} of {length:,} bytes came")
        return bytes(body)


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date; None when there is none to read."""
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return float(seconds)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, one without a zone, a year that no calendar has
        return None


def _number(text: str) -> int | None:
    """A header's whole number; None for anything else, and for one that no counter holds."""
    text = text.strip()
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None
