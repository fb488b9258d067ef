"""Tokens (RFC 6749, RFC 7009) and the caller's own account."""

import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from starlette.concurrency import run_in_threadpool

from api.accounts import User, change_password
from api.clients import invalid_client, read_client
from api.dependencies import AnyCaller, State, StateDep, json_body
from api.problems import ProblemError
from api.schemas import PasswordChange, RevokeForm, TokenAnswer, TokenForm, UserAnswer
from api.sessions import Grant, InvalidCredentialsError, ScopeNotGrantedError, login, refresh, revoke, revoke_session
from api.tokens import InvalidTokenError, KeyRing, issue_access_token, verify_access_token

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
FORM = "application/x-www-form-urlencoded"

router = APIRouter(prefix="/auth", tags=["auth"])


def user_answer(user: User) -> UserAnswer:
    return UserAnswer(
        id=user.id, name=user.name, scopes=list(user.scopes), enabled=user.enabled, created_at=user.created_at
    )


def _token_answer(ring: KeyRing, grant: Grant) -> TokenAnswer:
    scope = " ".join(grant.user.scopes)
    if not scope:
        raise ScopeNotGrantedError  # all that this session was for has been taken from the account
    now = int(time.time())
    token, claims = issue_access_token(
        ring, sub=grant.user.id, sid=grant.sid, ver=grant.user.token_version, scope=scope, now=now
    )
    return TokenAnswer(
        access_token=token,
        token_type="bearer",  # noqa: S106  the type's name
        expires_in=claims.exp - now,
        refresh_token=grant.refresh_token or None,
        scope=scope,
    )


def _require_form(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise ProblemError(415, f"Send the request as {FORM}.", error="invalid_request")


async def _log_in(request: Request, state: State, name: str, password: str, scope: str) -> Grant:
    peer = request.client.host if request.client else "-"
    return await login(state.engine, name, password, peer, scopes=scope.split())


async def _log_in_client(request: Request, state: State, form: TokenForm) -> Grant:
    """A program has its password at hand, so its session ends with the access token (RFC 6749, section 4.4.3)."""
    name, secret = read_client(request, form)
    try:
        grant = await _log_in(request, state, name, secret, form.scope)
    except InvalidCredentialsError as error:
        raise invalid_client(request, str(error)) from None
    return replace(grant, refresh_token="")


@router.post("/token", response_model=TokenAnswer, response_model_exclude_none=True)
async def create_token(
    request: Request, response: Response, state: StateDep, form: Annotated[TokenForm, Form()]
) -> TokenAnswer:
    """Log in with a password, as a person or as a program, or trade a refresh token for a new pair."""
    _require_form(request)
    response.headers.update(NO_STORE)
    if form.grant_type == "password" and form.username and form.password:
        grant = await _log_in(request, state, form.username, form.password, form.scope)
    elif form.grant_type == "client_credentials":
        grant = await _log_in_client(request, state, form)
    elif form.grant_type == "refresh_token" and form.refresh_token:
        grant = await run_in_threadpool(refresh, state.engine, form.refresh_token)
    elif form.grant_type in ("password", "refresh_token"):
        raise ProblemError(400, "Username and password, or a refresh token, are needed.", error="invalid_request")
    else:
        names = "password, client_credentials or refresh_token"
        raise ProblemError(400, f"grant_type must be {names}.", error="unsupported_grant_type")
    return _token_answer(state.ring, grant)


@router.post("/revoke", status_code=200)
async def revoke_token(request: Request, state: StateDep, form: Annotated[RevokeForm, Form()]) -> Response:
    """End the session of a refresh or access token; an unknown one is no error (RFC 7009, section 2.2)."""
    _require_form(request)
    if not form.token:
        raise ProblemError(400, "A token is needed.", error="invalid_request")
    try:
        session = verify_access_token(state.ring, form.token).sid
    except InvalidTokenError:
        await run_in_threadpool(revoke, state.engine, form.token)
    else:
        await run_in_threadpool(revoke_session, state.engine, session)
    return Response(status_code=200, headers=NO_STORE)


@router.get("/me", response_model=UserAnswer)
async def read_me(caller: AnyCaller) -> UserAnswer:
    """The account that the token belongs to."""
    return user_answer(caller.user)


@router.put("/me/password", status_code=204)
async def put_password(
    caller: AnyCaller, state: StateDep, body: Annotated[PasswordChange, Depends(json_body(PasswordChange))]
) -> Response:
    """Change the password; every session of the account ends."""
    await change_password(state.engine, caller.user.id, body.current_password, body.new_password)
    return Response(status_code=204, headers=NO_STORE)
