import asyncio
import threading
from asyncio import run
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from sqlalchemy import Engine, text

from api import accounts
from api.accounts import (
    MAX_PAGE,
    LastAdminError,
    NameTakenError,
    PageLimitError,
    ScopeError,
    UnknownUserError,
    User,
    UserNameError,
    WrongPasswordError,
    change_password,
    change_user,
    create_user,
    delete_user,
    end_sessions,
    get_user,
    get_user_named,
    has_admin,
    list_users,
    reset_password,
)
from api.passwords import PasswordPolicyError
from api.records import AccountsUnavailableError
from api.sessions import Grant, UnauthenticatedError, check_session, login, refresh, revoke
from api.throttle import ThrottledError
from mlops_core.errors import MLOpsError, RequestError

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
PASSWORD = "Kerosin, Kaffee & Kabine"
OTHER = "Gepäckband Nummer Sieben"
NOBODY = "00000000-0000-4000-8000-000000000000"
HOSTILE_IDS = ["", NOBODY, "alice", "a\0b", "\ud800", "' OR 1=1 --", "0" * 10_000, NOBODY.replace("0", "٠")]


def add(engine: Engine, name: str = "alice", *scopes: str) -> User:
    return run(create_user(engine, name, PASSWORD, scopes or ("predict",), now=NOW))


def log_in(engine: Engine, name: str = "alice", password: str = PASSWORD, now: datetime = NOW) -> Grant:
    return run(login(engine, name, password, "192.0.2.1", now=now))


def at_once(*works: Callable[[], object]) -> list[object]:
    """What each of them returned or raised, when all start together."""
    barrier = threading.Barrier(len(works))
    outcomes: list[object] = [None] * len(works)

    def work(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = works[number]()
        except MLOpsError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_new_user_is_found_by_id_and_by_name(engine: Engine) -> None:
    user = add(engine, "Alice.B@example.com", "predict", "admin", "predict")
    assert (user.name, user.scopes, user.enabled) == ("alice.b@example.com", ("admin", "predict"), True)
    assert (user.created_at, user.password_changed_at) == (NOW, NOW)
    assert get_user(engine, user.id) == user
    assert get_user_named(engine, "ALICE.b@Example.com") == user
    assert list_users(engine) == [user]


def test_moments_come_back_in_utc_whatever_they_went_in_as(engine: Engine) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-5)))
    user = run(create_user(engine, "alice", PASSWORD, (), now=elsewhere))
    found = get_user(engine, user.id)
    assert found
    kept = found.created_at
    assert kept == NOW
    assert kept.utcoffset() == timedelta(0)


def test_the_row_holds_a_salted_argon2id_hash_and_the_user_holds_none(engine: Engine) -> None:
    add(engine, "alice")
    add(engine, "bob")
    with engine.connect() as connection:
        hashes = connection.execute(text("SELECT password_hash FROM mlops_users")).scalars().all()
    assert len(set(hashes)) == 2
    assert all(value.startswith("$argon2id$") for value in hashes)
    assert not {field.name for field in fields(User)} & {"password", "password_hash"}


@pytest.mark.parametrize("name", ["alice", "ALICE", "Alice"])
def test_a_name_is_taken_in_any_case(engine: Engine, name: str) -> None:
    add(engine, "alice")
    with pytest.raises(NameTakenError, match="'alice'"):
        add(engine, name)


def test_one_of_two_who_take_a_name_at_once_gets_it(engine: Engine) -> None:
    outcomes = at_once(*[lambda: add(engine, "alice")] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NameTakenError"] * 3 + ["User"]


@pytest.mark.parametrize(
    "name",
    ["", " alice", "alice ", "a b", ".alice", "-rf", "a\0", "a\r\n{}", "\ud800", "älice", "аlice", "\u212aelvin",
     "a\u2028b", "a/b", "a'b", "x" * 65],
)  # fmt: skip
def test_a_name_with_other_characters_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(UserNameError):
        add(engine, name)
    assert get_user_named(engine, name) is None


@pytest.mark.parametrize("name", ["a", "7", "x" * 64, "a.b_c@d+e-f", NOBODY])
def test_a_plain_name_is_fine(engine: Engine, name: str) -> None:
    assert get_user_named(engine, name) is None
    assert add(engine, name) == get_user_named(engine, name)
    assert get_user(engine, name) is None


def test_a_weak_password_makes_no_user(engine: Engine) -> None:
    with pytest.raises(PasswordPolicyError):
        run(create_user(engine, "alice", "AliceAliceAlice", ["predict"]))
    assert list_users(engine) == []


@pytest.mark.parametrize("scope", ["root", "Admin", "", "predict admin"])
def test_an_unknown_scope_is_refused(engine: Engine, scope: str) -> None:
    user = add(engine)
    with pytest.raises(ScopeError):
        add(engine, "bob", "predict", scope)
    with pytest.raises(ScopeError):
        change_user(engine, user.id, scopes=[scope])
    assert list_users(engine) == [user]


@pytest.mark.parametrize("user_id", HOSTILE_IDS)
def test_an_id_that_does_not_exist_is_unknown_everywhere(engine: Engine, user_id: str) -> None:
    add(engine, "alice", "admin")
    assert get_user(engine, user_id) is None
    for call in (
        lambda: change_user(engine, user_id, enabled=False),
        lambda: change_user(engine, user_id, scopes=["admin"]),
        lambda: delete_user(engine, user_id),
        lambda: end_sessions(engine, user_id),
        lambda: run(change_password(engine, user_id, PASSWORD, OTHER)),
    ):
        with pytest.raises(UnknownUserError):
            call()


def test_pages_follow_each_other_and_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"user{number:02}" for number in range(7)]
    for name in reversed(names):
        add(engine, name)
    first = list_users(engine, limit=3)
    second = list_users(engine, limit=3, after=first[-1].name.upper())
    third = list_users(engine, limit=3, after=second[-1].name)
    assert [user.name for page in (first, second, third) for user in page] == names
    assert list_users(engine, after="zzz") == []


@pytest.mark.parametrize("limit", [-1, 0, MAX_PAGE + 1, 10**9])
def test_a_page_of_another_size_is_refused(engine: Engine, limit: int) -> None:
    with pytest.raises(PageLimitError):
        list_users(engine, limit=limit)


@pytest.mark.parametrize("after", ["a\0", "\ud800", "' OR 1=1"])
def test_a_page_behind_no_name_is_refused(engine: Engine, after: str) -> None:
    with pytest.raises(UserNameError):
        list_users(engine, after=after)


def test_a_changed_password_is_the_only_one_and_ends_every_session(engine: Engine) -> None:
    user, other = add(engine), add(engine, "bob")
    grants = [log_in(engine), log_in(engine)]
    bystander = log_in(engine, "bob")
    later = NOW + timedelta(hours=1)
    changed = run(change_password(engine, user.id, PASSWORD, OTHER, now=later))
    assert (changed.token_version, changed.password_changed_at) == (user.token_version + 1, later)
    for grant in grants:
        with pytest.raises(UnauthenticatedError):
            check_session(engine, user.id, grant.sid, user.token_version, now=NOW)
        with pytest.raises(MLOpsError, match="refresh token is not valid"):
            refresh(engine, grant.refresh_token, now=NOW)
    assert check_session(engine, other.id, bystander.sid, 0, now=NOW) == other
    assert log_in(engine, password=OTHER).user == changed
    with pytest.raises(MLOpsError, match="name or the password is wrong"):
        log_in(engine)


@pytest.mark.parametrize(
    ("current", "new", "error"),
    [
        (OTHER, OTHER, WrongPasswordError),
        ("\ud800", OTHER, WrongPasswordError),
        (PASSWORD, "alicealicealice", PasswordPolicyError),
    ],
)
def test_a_refused_change_changes_nothing(engine: Engine, current: str, new: str, error: type[MLOpsError]) -> None:
    user = add(engine)
    grant = log_in(engine)
    with pytest.raises(error):
        run(change_password(engine, user.id, current, new, now=NOW))
    assert check_session(engine, user.id, grant.sid, user.token_version, now=NOW) == user
    assert log_in(engine).user == user


def test_guessing_the_current_password_is_throttled_while_logging_in_is_not(engine: Engine) -> None:
    user = add(engine)
    for _ in range(5):
        with pytest.raises(WrongPasswordError):
            run(change_password(engine, user.id, OTHER, OTHER, now=NOW))
    for current in (OTHER, PASSWORD):
        with pytest.raises(ThrottledError):
            run(change_password(engine, user.id, current, OTHER, now=NOW))
    assert log_in(engine).user == user
    run(change_password(engine, user.id, PASSWORD, OTHER, now=NOW + timedelta(minutes=15)))


def test_one_of_two_changes_at_once_wins(engine: Engine) -> None:
    user = add(engine)
    new = [f"the new password of number {number}" for number in range(2)]
    outcomes = at_once(
        *[lambda number=number: run(change_password(engine, user.id, PASSWORD, new[number])) for number in range(2)]
    )
    winners = [number for number in range(2) if isinstance(outcomes[number], User)]
    assert len(winners) == 1
    assert isinstance(outcomes[1 - winners[0]], WrongPasswordError)
    assert log_in(engine, password=new[winners[0]])


def test_a_change_that_another_one_overtook_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    user = add(engine)

    async def overtaken(password: str) -> str:
        await asyncio.to_thread(end_sessions, engine, user.id)
        return "the hash of a change that is too late"

    monkeypatch.setattr(accounts, "hash_password", overtaken)
    with pytest.raises(WrongPasswordError):
        run(change_password(engine, user.id, PASSWORD, OTHER, now=NOW))
    assert log_in(engine).user.token_version == 1


def test_a_disabled_user_is_out_at_once_and_comes_back_without_old_sessions(engine: Engine) -> None:
    user = add(engine)
    grant = log_in(engine)
    disabled = change_user(engine, user.id, enabled=False, now=NOW)
    assert not disabled.enabled
    for _ in range(2):
        with pytest.raises(UnauthenticatedError):
            check_session(engine, user.id, grant.sid, user.token_version, now=NOW)
        with pytest.raises(MLOpsError, match="refresh token is not valid"):
            refresh(engine, grant.refresh_token, now=NOW)
        enabled = change_user(engine, user.id, enabled=True, now=NOW)
    assert log_in(engine).user == enabled


def test_a_change_of_two_things_is_made_as_a_whole(engine: Engine) -> None:
    last, user = add(engine, "last", "admin"), add(engine)
    with pytest.raises(LastAdminError):
        change_user(engine, last.id, scopes=["admin", "predict"], enabled=False)
    with pytest.raises(ScopeError):
        change_user(engine, user.id, scopes=["everything"], enabled=False)
    assert list_users(engine) == [user, last]
    changed = change_user(engine, user.id, scopes=["monitor"], enabled=False, now=NOW)
    assert (changed.scopes, changed.enabled, changed.token_version) == (("monitor",), False, 1)
    assert change_user(engine, user.id) == changed == get_user(engine, user.id)


def test_a_lost_password_is_replaced_without_the_old_one(engine: Engine) -> None:
    user, grant = add(engine), log_in(engine)
    for attempt in range(6):  # whoever forgot it has tried
        with pytest.raises(MLOpsError, match="wrong" if attempt < 5 else "Too many"):
            log_in(engine, password="I had it a moment ago")
    changed = run(reset_password(engine, user, OTHER, now=NOW + timedelta(minutes=1)))
    assert (changed.password_changed_at, changed.scopes) == (NOW + timedelta(minutes=1), user.scopes)
    with pytest.raises(UnauthenticatedError):
        check_session(engine, user.id, grant.sid, user.token_version, now=NOW)
    with pytest.raises(MLOpsError, match="refresh token is not valid"):
        refresh(engine, grant.refresh_token, now=NOW)
    assert log_in(engine, password=OTHER).user == changed
    with pytest.raises(MLOpsError, match="wrong"):
        log_in(engine)


def test_a_lost_password_is_replaced_by_a_good_one_only(engine: Engine) -> None:
    user, grant = add(engine), log_in(engine)
    with pytest.raises(PasswordPolicyError):
        run(reset_password(engine, user, "alicealicealice", now=NOW))
    assert check_session(engine, user.id, grant.sid, user.token_version, now=NOW) == user
    delete_user(engine, user.id)
    with pytest.raises(UnknownUserError):
        run(reset_password(engine, user, OTHER, now=NOW))


def test_disabling_twice_is_harmless(engine: Engine) -> None:
    user = add(engine)
    assert change_user(engine, user.id, enabled=False) == change_user(engine, user.id, enabled=False)
    assert change_user(engine, user.id, enabled=True) == change_user(engine, user.id, enabled=True)


def test_a_deleted_user_leaves_no_session_and_a_new_one_of_that_name_inherits_none(engine: Engine) -> None:
    user = add(engine)
    grant = log_in(engine)
    delete_user(engine, user.id)
    again = add(engine)
    assert again.id != user.id
    for sub in (user.id, again.id):
        with pytest.raises(UnauthenticatedError):
            check_session(engine, sub, grant.sid, 0, now=NOW)
    with pytest.raises(MLOpsError, match="refresh token is not valid"):
        refresh(engine, grant.refresh_token, now=NOW)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM mlops_sessions")).scalar() == 0


def test_new_scopes_act_on_a_living_session(engine: Engine) -> None:
    add(engine, "root", "admin")
    user = add(engine, "alice", "admin", "predict")
    grant = log_in(engine)
    change_user(engine, user.id, scopes=["predict"])
    assert check_session(engine, user.id, grant.sid, 0, now=NOW).scopes == ("predict",)
    change_user(engine, user.id, scopes=["monitor", "predict"])
    assert check_session(engine, user.id, grant.sid, 0, now=NOW).scopes == ("monitor", "predict")


def test_an_admin_can_log_a_user_out_everywhere(engine: Engine) -> None:
    user, other = add(engine, "alice", "admin"), add(engine, "bob")
    grant, bystander = log_in(engine), log_in(engine, "bob")
    end_sessions(engine, user.id, now=NOW)
    with pytest.raises(UnauthenticatedError):
        check_session(engine, user.id, grant.sid, 0, now=NOW)
    assert check_session(engine, other.id, bystander.sid, 0, now=NOW) == other


@pytest.mark.parametrize(
    "remove",
    [
        lambda engine, user_id: change_user(engine, user_id, scopes=["predict", "monitor"]),
        lambda engine, user_id: change_user(engine, user_id, scopes=[]),
        lambda engine, user_id: change_user(engine, user_id, enabled=False),
        delete_user,
    ],
)
def test_the_last_enabled_admin_stays_one(engine: Engine, remove: Callable[[Engine, str], object]) -> None:
    assert not has_admin(engine)
    first, second = add(engine, "first", "admin"), add(engine, "second", "admin", "predict")
    add(engine, "third", "predict", "monitor")
    remove(engine, second.id)
    for _ in range(2):
        with pytest.raises(LastAdminError, match="'first'"):
            remove(engine, first.id)
    assert get_user(engine, first.id) == first
    assert has_admin(engine)


def test_a_disabled_admin_does_not_count_as_one(engine: Engine) -> None:
    first, second = add(engine, "first", "admin"), add(engine, "second", "admin")
    change_user(engine, second.id, enabled=False)
    with pytest.raises(LastAdminError):
        delete_user(engine, first.id)
    delete_user(engine, second.id)
    assert list_users(engine) == [first]


def test_two_admins_who_remove_each_other_at_once_leave_one(engine: Engine) -> None:
    for turn in range(8):
        first, second = add(engine, f"a{turn}", "admin"), add(engine, f"b{turn}", "admin")
        outcomes = at_once(
            lambda first=first: change_user(engine, first.id, scopes=[]),
            lambda second=second: delete_user(engine, second.id),
        )
        assert [type(outcome) for outcome in outcomes].count(LastAdminError) == 1
        assert has_admin(engine)
        for user in list_users(engine):
            if user.scopes == ("admin",):
                add(engine, "spare", "admin")
                delete_user(engine, user.id)
                break
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM mlops_users"))


def test_nobody_is_let_through_while_the_database_is_away(engine: Engine) -> None:
    user = add(engine, "alice", "admin")
    grant = log_in(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE mlops_users RENAME TO away"))
        connection.execute(text("ALTER TABLE mlops_sessions RENAME TO away_too"))
    calls: list[Callable[[], object]] = [
        lambda: add(engine, "bob"),
        lambda: log_in(engine),
        lambda: log_in(engine, "nobody"),
        lambda: log_in(engine, password=OTHER),
        lambda: refresh(engine, grant.refresh_token, now=NOW),
        lambda: revoke(engine, grant.refresh_token),
        lambda: check_session(engine, user.id, grant.sid, 0, now=NOW),
        lambda: get_user(engine, user.id),
        lambda: get_user_named(engine, "alice"),
        lambda: list_users(engine),
        lambda: has_admin(engine),
        lambda: run(change_password(engine, user.id, PASSWORD, OTHER)),
        lambda: change_user(engine, user.id, enabled=False),
        lambda: change_user(engine, user.id, scopes=[]),
        lambda: run(reset_password(engine, user, OTHER)),
        lambda: delete_user(engine, user.id),
        lambda: end_sessions(engine, user.id),
    ]
    try:
        for call in calls:
            with pytest.raises(AccountsUnavailableError):
                call()
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO mlops_users"))
            connection.execute(text("ALTER TABLE away_too RENAME TO mlops_sessions"))
    assert check_session(engine, user.id, grant.sid, 0, now=NOW) == user


def test_every_error_of_a_wrong_request_says_so() -> None:
    classes = [kind for kind in vars(accounts).values() if isinstance(kind, type) and issubclass(kind, MLOpsError)]
    own = {kind for kind in classes if kind.__module__ == "api.accounts"}
    assert own - {LastAdminError, WrongPasswordError} == {kind for kind in own if issubclass(kind, RequestError)}
    for kind in own:
        assert kind.__name__ in (accounts.__doc__ or "")


def test_ids_are_random(engine: Engine) -> None:
    ids = [add(engine, f"user{number}").id for number in range(3)]
    assert all(accounts.ID.fullmatch(user_id) for user_id in ids)
    assert all(first[:8] != second[:8] for first, second in pairwise(ids))
