"""Who a program says it is when it asks for a token (RFC 6749, section 2.3.1): by HTTP Basic, or in the form."""

import base64
from urllib.parse import unquote_plus

from fastapi import Request
from pydantic import TypeAdapter

from api.problems import ProblemError
from api.schemas import Text, TokenForm

BASIC = 'Basic realm="mlops", charset="UTF-8"'
NEEDED = "The client's id and secret are needed, by HTTP Basic or in the form."
TEXT = TypeAdapter(Text)


def invalid_client(request: Request, detail: str) -> ProblemError:
    """401 with the challenge of the way that was tried; for a form none of the kind that opens a browser's dialog."""
    challenge = BASIC if "authorization" in request.headers else "Bearer"
    return ProblemError(401, detail, headers={"WWW-Authenticate": challenge}, error="invalid_client")


def read_client(request: Request, form: TokenForm) -> tuple[str, str]:
    """Id and secret. Raises ProblemError 400 for more than one way at once, 401 for none that can be read."""
    headers = request.headers.getlist("authorization")
    if not headers:
        if not (form.client_id and form.client_secret):
            raise invalid_client(request, NEEDED)
        return form.client_id, form.client_secret
    try:
        name, secret = _decode(headers[0])
    except ValueError:  # pydantic's and Unicode's errors are such
        raise invalid_client(request, NEEDED) from None
    # The id alone may stand in the form too (section 3.2.1).
    if len(headers) > 1 or form.client_secret or form.client_id not in ("", name):
        raise ProblemError(400, "Name the client once: by HTTP Basic or in the form.", error="invalid_request")
    return name, secret


def _decode(header: str) -> tuple[str, str]:
    """Id and secret, each form-encoded inside of the base64. Raises ValueError."""
    scheme, _, token = header.partition(" ")
    name, colon, secret = base64.b64decode(token, validate=True).decode().partition(":")
    if scheme.lower() != "basic" or not (name and colon and secret):
        raise ValueError("not the credentials of a client")
    return _plain(name), _plain(secret)


def _plain(text: str) -> str:
    return TEXT.validate_python(unquote_plus(text, errors="strict"))
