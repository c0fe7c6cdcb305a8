"""`/sign-in` and `/sign-out`: the only pages of the console that need no session."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from fer.collection.operator_sessions import SESSION_HOURS, OperatorSessions
from fer.web.middleware import LANGUAGE_COOKIE, inner_path, request_language
from fer.web.operator_guard import (
    CONSOLE_POLICY,
    OPERATOR_COOKIE,
    PAGES,
    csrf_matches,
    next_page,
    token_of,
)
from fer.web.operator_lockout import Lockout
from fer.web.operator_texts import ConsoleTexts, console_texts
from fer.web.origins import same_origin
from fer.web.texts import LANGUAGES

ASSETS = Path(__file__).parent / "assets" / "review"

_YEAR = 365 * 24 * 3600


class Door:
    """Checks passwords and opens sessions.

    Args:
        sessions: the open sessions.
        check: the operator's name as it is stored if the password is right, else None. Slow on
            purpose, and as slow for names that no operator has.
        anybody: whether there is any operator.
    """

    def __init__(
        self,
        sessions: OperatorSessions,
        check: Callable[[str, str], str | None],
        anybody: Callable[[], bool],
        lockout: Lockout | None = None,
    ) -> None:
        self.sessions = sessions
        self.check = check
        self.anybody = anybody
        self.lockout = lockout or Lockout()
        # Each check takes 64 MB and a core for a moment; more at once help nobody but attackers.
        self._checking = threading.BoundedSemaphore(2)

    def knock(self, name: str, password: str, address: str) -> tuple[str | None, int]:
        """The operator's name where the password is right; else None and seconds to wait."""
        wait = self.lockout.begin(name, address)
        if wait:
            return None, wait
        with self._checking:
            found = self.check(name.strip(), password)
        if found is None:
            self.lockout.wrong(name, address)
            return None, 0
        self.lockout.right(name, address)
        return found, 0


def sign_in_routes(door: Door) -> APIRouter:
    """The routes `/sign-in`, `/sign-out` and the style sheet of the first."""
    router = APIRouter(include_in_schema=False)

    @router.get("/sign-in")
    def page(
        request: Request,
        next: Annotated[str, Query(max_length=100)] = "",
        lang: Annotated[str, Query(max_length=10)] = "",
    ) -> Response:
        return in_language(request, lang) or _page(door, request, next_page(next))

    # An absent field is an empty one, and opens nothing.
    @router.post("/sign-in")
    def sign_in(  # nosec B107
        request: Request,
        name: Annotated[str, Form(max_length=200)] = "",
        password: Annotated[str, Form(max_length=1000)] = "",
        next: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        say = _texts(request)
        target = next_page(next)
        if not same_origin(request.scope):
            return PlainTextResponse(say("error.csrf"), 403)
        address = request.client.host if request.client else ""
        found, wait = door.knock(name, password, address)
        if wait:
            sentence = say("sign_in.locked", minutes=-(-wait // 60))
            refused = _page(door, request, target, sentence, 429, name)
            refused.headers["Retry-After"] = str(wait)
            return refused
        if found is None:
            return _page(door, request, target, say("sign_in.wrong"), 401, name)
        # Always a new token: one that somebody planted in this browser before is worth nothing.
        token = door.sessions.open(found, replacing=token_of(request.scope))
        root = _root(request)
        response = RedirectResponse(root + target, 303, {"Cache-Control": "no-store"})
        response.set_cookie(
            OPERATOR_COOKIE,
            token,
            max_age=SESSION_HOURS * 3600,
            path=root or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    @router.post("/sign-out")
    def sign_out(request: Request, csrf: Annotated[str, Form(max_length=100)] = "") -> Response:
        token = token_of(request.scope)
        who = door.sessions.find(token) if token else None
        if token and who is not None:
            if not same_origin(request.scope) or not csrf_matches(who, csrf):
                return PlainTextResponse(_texts(request)("error.csrf"), 403)
            door.sessions.close(token)
        root = _root(request)
        response = RedirectResponse(root + "/sign-in", 303, {"Cache-Control": "no-store"})
        response.delete_cookie(OPERATOR_COOKIE, path=root or "/", httponly=True, samesite="lax")
        # What the browser holds of the faces goes too, where it understands the wish.
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    @router.get("/sign-in/style.css")
    def style() -> Response:
        return FileResponse(ASSETS / "style.css", media_type="text/css")

    return router


def in_language(request: Request, chosen: str) -> Response | None:
    """Where a page was asked for with `?lang=`: remember the language, and the page again."""
    if chosen not in LANGUAGES:
        return None
    wanted = request.query_params.get("next")
    kept = f"?next={next_page(wanted)}" if wanted is not None else ""
    here = inner_path(request.scope).rstrip("/")
    path = _root(request) + (here if here in PAGES else "/sign-in")
    response = RedirectResponse(path + kept, 303, {"Cache-Control": "no-store"})
    response.set_cookie(
        LANGUAGE_COOKIE, chosen, max_age=_YEAR, path=_root(request) or "/", samesite="lax"
    )
    return response


def _page(
    door: Door,
    request: Request,
    target: str,
    trouble: str = "",
    status: int = 200,
    name: str = "",
) -> Response:
    say = _texts(request)
    others = " ".join(
        f'<a href="?lang={code}&amp;next={target}" lang="{code}">{name}</a>'
        for code, name in LANGUAGES.items()
        if code != say.language
    )
    template = Template((ASSETS / "sign_in.html").read_text(encoding="utf-8"))
    page = template.substitute(
        language=say.language,
        root=_root(request),
        title=say.html("sign_in.title"),
        lead=say.html("sign_in.lead"),
        form=_form(say, _root(request), target, name) if door.anybody() else _first_operator(say),
        trouble=f'<p class="trouble" role="alert">{html.escape(trouble)}</p>' if trouble else "",
        others=others,
        back=say.html("sign_in.back"),
    )
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": CONSOLE_POLICY}
    return Response(page, status, headers, "text/html; charset=utf-8")


def _form(say: ConsoleTexts, root: str, target: str, name: str) -> str:
    # After a wrong password the name stays, and the cursor stands where something is to be typed.
    at_name, at_password = ("", " autofocus") if name else (" autofocus", "")
    return (
        f'<form method="post" action="{root}/sign-in">'
        f'<input type="hidden" name="next" value="{target}">'
        f'<label>{say.html("sign_in.name")}<input name="name" autocomplete="username" '
        f'autocapitalize="none" spellcheck="false" maxlength="64" value="{html.escape(name)}" '
        f"required{at_name}></label>"
        f'<label>{say.html("sign_in.password")}<input name="password" type="password" '
        f'autocomplete="current-password" maxlength="1000" required{at_password}></label>'
        f'<button class="primary">{say.html("sign_in.button")}</button></form>'
    )


def _first_operator(say: ConsoleTexts) -> str:
    return (
        f"<p>{say.html('sign_in.nobody')}</p>"
        "<pre><code>fer operators add NAME --role admin</code></pre>"
        f'<p class="quiet">{say.html("sign_in.nobody_then")}</p>'
    )


def _texts(request: Request) -> ConsoleTexts:
    return console_texts(request_language(request.scope))


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")
