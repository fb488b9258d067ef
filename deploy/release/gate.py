"""The gate of a release: is the API at this address ready, and does it answer as it should? Needs Python alone.

Asks as the account GATE_CLIENT_ID (scope predict) for the model's own example, again and again: no answer may fail.
"""

import base64
import json
import os
import sys
import time
from urllib.error import HTTPError, URLError
from urllib.parse import quote_plus, urlencode
from urllib.request import Request, urlopen

SECONDS = float(os.environ.get("GATE_SECONDS", "300"))
QUESTIONS = int(os.environ.get("GATE_QUESTIONS", "50"))


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict]:
    """Status and JSON; 0 where nobody answers."""
    try:
        with urlopen(Request(url, body, headers), timeout=10) as answer:  # noqa: S310  an operator's address
            return answer.status, json.load(answer)
    except HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {}
    except (URLError, OSError, ValueError) as error:
        return 0, {"detail": str(error)}


def wait_until_ready(url: str) -> str:
    end = time.monotonic() + SECONDS
    while True:
        status, facts = ask(f"{url}/readyz")
        if status == 200:
            return f"{facts['model']['name']} {facts['model']['version']}"
        if time.monotonic() > end:
            sys.exit(f"refused: not ready after {SECONDS:g} s: {status} {facts.get('detail', '')}")
        time.sleep(1)


def log_in(url: str, name: str, secret: str) -> str:
    basic = base64.b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()
    form = urlencode({"grant_type": "client_credentials", "scope": "predict"}).encode()
    status, answer = ask(f"{url}/auth/token", form, Authorization=f"Basic {basic}")
    if status != 200:
        sys.exit(f"refused: no token for {name}: {status} {answer.get('detail', '')}")
    return str(answer["access_token"])


def question(url: str, token: str) -> None:
    """One prediction of the model's own example, and one refusal of a stranger."""
    bearer = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    status, model = ask(f"{url}/v1/model", **bearer)
    if status == 200:
        body = json.dumps({"instances": [model["example"]]}).encode()
        status, answer = ask(f"{url}/v1/predict", body, **bearer)
        if status == 200 and len(answer["predictions"]) == 1:
            status, _ = ask(f"{url}/v1/predict", body, **{"Content-Type": "application/json"})
            if status == 401:
                return
            sys.exit(f"refused: a stranger got {status}")
    sys.exit(f"refused: a prediction got {status}")


def main() -> None:
    url = sys.argv[1].rstrip("/")
    name, secret = os.environ.get("GATE_CLIENT_ID", ""), os.environ.get("GATE_CLIENT_SECRET", "")
    if not (name and secret):
        sys.exit("refused: GATE_CLIENT_ID and GATE_CLIENT_SECRET name the account that asks")
    model = wait_until_ready(url)
    token = log_in(url, name, secret)
    for _ in range(QUESTIONS):
        question(url, token)
    print(f"passed: {url} serves {model}, {QUESTIONS} of {QUESTIONS} answers are right")


if __name__ == "__main__":
    main()
