"""Who may look, and what a page may load: the token, the host check and the security headers."""

import hashlib
import hmac
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

TOKEN = "WORKBENCH_TOKEN"
"""Where the Flask application's config keeps the token."""

REFUSED = (
    "This dashboard needs its token: open the link that was printed when it was started (it ends "
    "in ?token=...), or send the header  Authorization: Bearer <token>\n"
)

STRANGER = (
    "This dashboard answers on this machine only, as localhost or 127.0.0.1: start it with a token "
    "to reach it by another name\n"
)


def protect(server: Flask, token: str | None, scripts: list[str]) -> None:
    """Guard every route of a server, and give every answer its security headers.

    `scripts` are the hashes of the inline scripts that pages may run; nothing else that is inline
    runs, and nothing is loaded from elsewhere.

    Raises:
        ValueError: the token is empty.
    """
    if token is not None and not token.strip():
        raise ValueError("the token is empty: give a long random text, or None for no token")
    server.config[TOKEN] = token
    policy = _policy(scripts)

    def admit() -> BaseResponse | None:
        if _foreign():
            return _plain(STRANGER, 403)
        return _admit_host() if token is None else _admit_token(token)

    def harden(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    server.before_request(admit)
    server.after_request(harden)


def _policy(scripts: list[str]) -> str:
    rules = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", *scripts]),
        # The grid, the figures and the sliders write style elements of their own.
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _foreign() -> bool:
    """Whether a page of another site sends this request."""
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def _admit_host() -> BaseResponse | None:
    """Refuse names that a stranger's DNS may point at this machine."""
    host = urlsplit(f"//{request.host}")
    name = f"[{host.hostname}]" if ":" in (host.hostname or "") else host.hostname
    return None if name in LOOPBACK else _plain(STRANGER, 403)


def _admit_token(token: str) -> BaseResponse | None:
    """Let in whoever brings the token; one in the address leaves it and becomes a cookie."""
    cookie = hashlib.sha256(f"workbench cookie {token}".encode()).hexdigest()
    # Cookies know no ports: two dashboards on one machine need two names.
    name = f"workbench-{hashlib.sha256(cookie.encode()).hexdigest()[:8]}"
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if _same(request.cookies.get(name, ""), cookie):
        return None
    if scheme.lower() == "bearer" and _same(bearer.strip(), token):
        return None
    if request.method == "GET" and _same(request.args.get("token", ""), token):
        rest = [(key, v) for key, v in request.args.items(multi=True) if key != "token"]
        answer = redirect(request.path + ("?" + urlencode(rest) if rest else ""), 303)
        answer.set_cookie(name, cookie, httponly=True, samesite="Strict", secure=request.is_secure)
        return answer
    return _plain(REFUSED, 401)


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _plain(text: str, status: int) -> Response:
    return Response(text, status, mimetype="text/plain")
