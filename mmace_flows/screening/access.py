"""Who may ask the server: anybody on this machine, and elsewhere whoever knows the token. Headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmace.errors import UserError

TOKEN_VARIABLE = "MMACE_SERVE_TOKEN"
SHORTEST_TOKEN = 16  # characters
COOKIE = "mmace_session"
LONGEST_QUERY = 8192  # bytes after the question mark
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# a report is one file with its styles and figures inside, and runs nothing
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(token_file: Path | None) -> str | None:
    """The token from its file, else from the environment, else None. Raises UserError; never shows the token."""
    if token_file is None:
        source, token = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return None
    else:
        source = f"--token-file {token_file}"
        try:
            with token_file.open(encoding="utf-8") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    raise UserError(f"{source}: is not a file")
                if mode & 0o077:
                    raise UserError(f"{source}: others can read it (mode {mode & 0o777:o}); chmod 600 it")
                token = stream.read(4096).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise UserError(f"{source}: cannot be read ({reason})") from error
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(letter.isspace() for letter in token):
        raise UserError(
            f"{source}: a token is one word of at least {SHORTEST_TOKEN} letters and digits; make one: {MAKE_ONE}"
        )
    return token


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    token: str | None = None  # None: everybody who reaches the server, which then listens on loopback

    @classmethod
    def for_host(cls, host: str, token: str | None) -> Access:
        """Raises UserError for a server that others can reach without a token."""
        if token is None and not is_loopback(host):
            raise UserError(
                f"--host {host}: other machines could read your results; give a token with --token-file FILE "
                f"(mode 600) or {TOKEN_VARIABLE}; make one: {MAKE_ONE}"
            )
        return cls(token)

    def allows_host(self, header: str) -> bool:
        """Without a token the server answers only to its own names, so that no other site's page can ask it by DNS."""
        name = header[: header.index("]") + 1] if header.startswith("[") and "]" in header else header.split(":")[0]
        return self.token is not None or name.lower() in LOOPBACK_NAMES

    def knows(self, authorization: str, cookie: str) -> bool:
        """Whether a request proves that it knows the token. Compares in constant time."""
        if self.token is None:
            return True
        kind, _, given = authorization.partition(" ")
        bearer = kind.lower() == "bearer" and _same(given.strip(), self.token)
        return bearer or _same(cookie, self.session())

    def session(self) -> str:
        """What the browser keeps in place of the token."""
        return hmac.new((self.token or "").encode(), b"mmace serve session", hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


def refusal(access: Access, request: Any) -> tuple[int, str] | None:
    """Status and reason why a request gets no answer, or None. ``request`` is starlette's."""
    if not access.allows_host(request.headers.get("host", "")):
        return 421, "this server answers to localhost only"
    path = request.url.path
    asks_for_session = request.method == "POST" and path == "/api/session"
    if request.method not in ("GET", "HEAD") and not asks_for_session:
        return 405, "this server only reads"
    if len(request.url.query) > LONGEST_QUERY:
        return 414, f"the question is longer than {LONGEST_QUERY} bytes"
    protected = path.startswith("/api/") or path == "/openapi.json"
    if protected and not access.knows(request.headers.get("authorization", ""), request.cookies.get(COOKIE, "")):
        return 401, "a token is needed: Authorization: Bearer …"
    return None
