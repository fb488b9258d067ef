"""Who asks: name and password in, and never kept."""

import asyncio
from collections.abc import Callable

import ipywidgets as widgets

from mlops_core.frontend.words import box, html

ENTER_SECONDS = 0.15  # the browser says that Enter was pressed before it says what was typed


class SignIn:
    """The form that a visitor sees first, and again when a session has ended."""

    def __init__(self, sign_in: Callable[[str, str], None]) -> None:
        self._sign_in = sign_in
        self.name = widgets.Text(description="Name", continuous_update=False)
        self.password = widgets.Password(description="Password", continuous_update=False)
        self.button = widgets.Button(description="Sign in", button_style="primary")
        self.name.add_class("mlops-name")
        self.password.add_class("mlops-password")
        title = html("<h2>Sign in</h2>")
        self.view = box(title, self.name, self.password, self.button, kind="mlops-signin")
        self.button.on_click(lambda _: self._submit())
        self.password.on_msg(self._on_enter)

    def _on_enter(self, _: widgets.Widget, content: dict[str, object], __: object) -> None:
        if content.get("event") == "submit":
            asyncio.get_running_loop().call_later(ENTER_SECONDS, self._submit)

    def _submit(self) -> None:
        if self.button.disabled:
            return
        name, password = self.name.value.strip(), self.password.value
        self.password.value = ""
        if name and password:
            self.wait(True)
            self._sign_in(name, password)

    def wait(self, waiting: bool) -> None:
        """While the service looks at a password, a second click does nothing."""
        self.button.disabled = waiting
        self.button.description = "Signing in …" if waiting else "Sign in"
