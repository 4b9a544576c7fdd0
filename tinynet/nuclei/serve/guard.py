"""Who may use the server: only the browser of the person who started it.

The server listens on this computer alone. Other programs and every web page that the browser shows can reach it, too.
- A page of another origin can send requests. Browsers name the origin: requests that change something need our own.
- DNS rebinding gives our address to a name of the attacker, so that the attacker's page has our origin. The header Host
  still holds that name: it must be ours.
- Another user of this computer can connect. The address that the terminal shows holds a secret, which the browser keeps
  as a cookie; each request needs it. Every start of the server makes a new secret. Other users can read the command
  lines of all programs, so the browser is not started with the address, but with a file that leads to it.
"""

from __future__ import annotations

import os
import secrets
from html import escape
from pathlib import Path

import bottle

LEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={0}">'
LEAD += '<link rel="icon" href="data:,"><title>tinynet</title><p><a href="{0}">Nuclei</a>'

HEADERS = {
    # The page takes scripts, styles and images from this server, and nothing from elsewhere; no page may embed it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Checks requests to one server. port: where it listens. token: the secret; by default a new one."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(24)
        suffix = "" if port == 80 else f":{port}"  # browsers leave out the usual port
        self.hosts = tuple(name + suffix for name in ("127.0.0.1", "localhost"))
        self.origins = tuple(f"http://{host}" for host in self.hosts)
        self.cookie = f"tinynet-{port}"  # cookies of one host are shared by all of its ports

    @property
    def address(self) -> str:
        """What the browser opens first."""
        return f"http://{self.hosts[0]}/?token={self.token}"

    def write_entrance(self, path: Path) -> None:
        """Write a document that leads to the address, and that only the user can read."""
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(LEAD.format(escape(self.address)))

    def check_host(self, request: bottle.BaseRequest) -> None:
        """Raise HTTPError 403 if the request names another host."""
        host = request.get_header("Host", "")
        if host not in self.hosts:
            raise bottle.HTTPError(403, f"this server is {self.hosts[0]}, not {host[:80]!r}")

    def check(self, request: bottle.BaseRequest) -> None:
        """Raise HTTPError 403, with a sentence, for a request that is not from the page of this server."""
        self.check_host(request)
        if request.get_header("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise bottle.HTTPError(403, "a page of another origin cannot use this server")
        if request.method not in ("GET", "HEAD") and request.get_header("Origin") not in self.origins:
            raise bottle.HTTPError(403, "only the page of this server can change something")
        if not self._knows_token(request.get_cookie(self.cookie)):
            raise bottle.HTTPError(
                403, "open the address that the terminal shows; each start of the server has a new one"
            )

    def enter(self, token: str | None) -> str:
        """Keep the secret as a cookie, if it is right. Returns a document that leads to the page.

        The address bar then shows no secret. A redirect would do so too, but if the browser came from a file, it counts
        the redirected request as one from elsewhere and sends no cookie.
        """
        if not self._knows_token(token):
            raise bottle.HTTPError(403, "the token in this address is not that of the running server; see the terminal")
        bottle.response.set_cookie(self.cookie, self.token, path="/", httponly=True, samesite="strict")
        return LEAD.format("/")

    def _knows_token(self, token: str | None) -> bool:
        return token is not None and secrets.compare_digest(token.encode(), self.token.encode())
