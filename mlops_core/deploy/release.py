"""A release: a new version beside the one that serves, traffic moved to it gate by gate, and back when one is shut."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlops_core.deploy import gates
from mlops_core.deploy.gates import Golden, Limits, Login, RefusedError
from mlops_core.deploy.proxy import BLUE, GREEN, Proxy
from mlops_core.serve.rehearsal import Service, ServiceError

# Not 100: until the last gate is passed the one before keeps a hundredth, so that what fails has somewhere to go.
STEPS = (10, 50, 99)
DRAIN_SECONDS = 5.0
FAULT = "fault"  # the note of what a rehearsal broke


@dataclass(frozen=True)
class Note:
    """What happened, when, and how much of the traffic the new version had by then."""

    at: float
    what: str
    said: str
    share: int


@dataclass
class Lane:
    """The proxy, and the version that serves behind it."""

    proxy: Proxy
    serving: Service
    login: Login
    golden: Golden
    limits: Limits
    place: str = BLUE
    notes: list[Note] = field(default_factory=list)
    told: Callable[[Note], None] = lambda _: None

    @property
    def spare(self) -> str:
        return GREEN if self.place == BLUE else BLUE

    def release(self, start: Callable[[], Service], trouble: Callable[[int, Service], str]) -> bool:
        """Whether the new version serves now; if not, the one before does, and the new one is gone.

        `trouble` is called with the share and the new version as soon as it has that share: a rehearsal may break
        something there, and says what.
        """
        try:
            candidate = start()
        except ServiceError as error:
            self._note("start", str(error), 0)
            self._note("back", f"refused: {self.place} serves on", 0)
            return False
        self._note("start", f"{self.spare} on port {candidate.port}, beside {self.place}", 0)
        share = 0
        try:
            self._note("ready", gates.pass_ready_gate(candidate), 0)
            ask = self.serving.client(), candidate.client()
            self._note("smoke", gates.pass_smoke_gate(*ask, self.login, self.golden), 0)
            self._note("proxy", gates.pass_proxy_gate(self.proxy, self.spare, candidate.port), 0)
            for share in STEPS:
                before = self.proxy.counts(self.spare)
                self.proxy.share({self.spare: share, self.place: 100 - share})
                if fault := trouble(share, candidate):
                    self._note(FAULT, fault, share)
                said = gates.pass_traffic_gate(self.proxy, self.spare, share, before, self.limits)
                self._note(f"{share} %", said, share)
        except RefusedError as refusal:
            self._note(refusal.gate, refusal.reason, share)
            self._give_up(candidate, share)
            return False
        self._take_over(candidate)
        return True

    def _give_up(self, candidate: Service, share: int) -> None:
        """What a dead or hanging one was asked is asked again on the other one, as soon as its connections break."""
        if share:
            self.proxy.share({self.place: 100, self.spare: 0})
            if self.proxy.counts(self.spare).up:
                self.proxy.drain(self.spare, DRAIN_SECONDS)
        candidate.close()
        self.proxy.close_place(self.spare)
        self._note("back", f"refused: {self.place} serves on, {self.spare} is gone", 0)

    def _take_over(self, candidate: Service) -> None:
        before, left = self.serving, self.place
        self.proxy.share({self.spare: 100})
        self.proxy.drain(left, DRAIN_SECONDS)
        code = before.stop()
        self.proxy.close_place(left)
        self.serving, self.place = candidate, self.spare
        self._note("over", f"{self.place} serves, {left} has finished what it had and ended with {code}", 100)

    def _note(self, what: str, said: str, share: int) -> None:
        note = Note(time.monotonic(), what, said, share)
        self.notes.append(note)
        self.told(note)
