"""Accounts, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.concurrency import run_in_threadpool

from api.accounts import MAX_PAGE, User, change_user, create_user, delete_user, end_sessions, list_users
from api.dependencies import AdminCaller, StateDep, json_body
from api.routes.auth import user_answer
from api.schemas import NewUser, UserAnswer, UserChange, UserPage

router = APIRouter(prefix="/admin/users", tags=["admin"])


@router.get("", response_model=UserPage)
async def read_users(
    _caller: AdminCaller,
    state: StateDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    after: Annotated[str, Query(max_length=64)] = "",
) -> UserPage:
    """Accounts by name; `next` is what to send as `after` for the next page."""
    users = await run_in_threadpool(list_users, state.engine, limit=limit, after=after)
    return UserPage(users=[user_answer(user) for user in users], next=users[-1].name if len(users) == limit else None)


@router.post("", response_model=UserAnswer, status_code=201)
async def post_user(
    _caller: AdminCaller, state: StateDep, body: Annotated[NewUser, Depends(json_body(NewUser))]
) -> UserAnswer:
    """Create an account."""
    return user_answer(await create_user(state.engine, body.name, body.password, body.scopes))


@router.patch("/{user_id}", response_model=UserAnswer)
async def patch_user(
    _caller: AdminCaller, state: StateDep, user_id: str, body: Annotated[UserChange, Depends(json_body(UserChange))]
) -> UserAnswer:
    """Enable, disable, give other scopes, or end all sessions; acts on the account's next request."""

    def change() -> User:
        user = change_user(state.engine, user_id, scopes=body.scopes, enabled=body.enabled)
        if body.end_sessions:
            end_sessions(state.engine, user_id)
        return user

    return user_answer(await run_in_threadpool(change))


@router.delete("/{user_id}", status_code=204)
async def remove_user(_caller: AdminCaller, state: StateDep, user_id: str) -> Response:
    """Delete an account and its sessions."""
    await run_in_threadpool(delete_user, state.engine, user_id)
    return Response(status_code=204)
