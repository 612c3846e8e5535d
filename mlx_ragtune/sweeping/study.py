"""The study of a sweep: which trial comes next, what is known of each one, and which workers are alive.

Several processes may work on one study, on one machine or on many. Each writes into its trial, every few seconds, that
it is alive. A trial whose worker is dead is marked as interrupted, and its settings wait for the next worker, which
continues from the checkpoints where it can reach them. A worker may pause a trial at a rung and begin another one.
"""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.recipe import SweepSettings
from mlx_ragtune.sweeping.halving import Halving
from mlx_ragtune.sweeping.sampler import SettingSampler
from mlx_ragtune.sweeping.space import Settings, Space
from mlx_ragtune.sweeping.storage import DEFAULT, Address, close_storage, open_storage, reading
from mlx_ragtune.sweeping.trials import (
    ENDED,
    PAUSED,
    RETAKEN,
    SET_ASIDE,
    Look,
    TrialRow,
    counts,
    objective,
    row_of,
    trial_numbers,
)

BEAT_SECONDS = 15.0
"""How often a worker writes that it is alive."""
SILENT_SECONDS = 120.0
"""A worker of another machine that has not written for so long is dead."""
ASK_SECONDS = 30.0
"""A trial that has no worker for so long was never begun: its worker was stopped while it asked for settings."""
DEATHS = 2
"""A trial during which so many workers died is recorded as pruned: the next one would die too."""
DEFAULT_TRIALS = 16
IDENTITY = "identity"
BEAT = "beat"
"""User attribute of a trial that its worker has begun: it grows while the worker is alive."""


@dataclass(frozen=True)
class Judgment:
    """What is known of a trained trial. ``probe_loss`` is None without probes."""

    score: float
    valid_loss: float
    probe_loss: float | None
    updates: int
    seconds: float
    tokens_per_second: float
    run: str
    key: str


def this_worker() -> str:
    """Machine name, machine id and process of this worker."""
    return f"{platform.node() or 'unknown'}:{uuid.getnode():x}:{os.getpid()}"


def _is_gone(worker: str) -> bool:
    """Whether a worker ran on this machine and its process has ended. Nothing is known of other machines."""
    _, machine, process = worker.rsplit(":", 2) if worker.count(":") >= 2 else ("", "", "")
    if machine != f"{uuid.getnode():x}" or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@dataclass
class SweepStudy:
    """A study, opened by one worker."""

    study: optuna.Study
    address: Address
    space: Space
    settings: SweepSettings
    by_loss: bool
    worker: str = field(default_factory=this_worker)
    _beats: dict[int, tuple[str, float]] = field(default_factory=dict)
    _current: int | None = None
    _paused: dict[int, Trial] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Whether workers on other machines can reach the study: it is not the default file in the run's folder."""
        return self.address.where != DEFAULT

    def close(self) -> None:
        """Close the connections to the storage."""
        close_storage(self.study._storage)

    def trials(self) -> list[FrozenTrial]:
        """All trials in the order of their numbers."""
        with reading(self.address):
            return self.study.get_trials(deepcopy=False)

    def rows(self) -> list[TrialRow]:
        """The records of all trials; an interrupted one and those that continue it are one trial."""
        trials = self.trials()
        numbers = trial_numbers(trials)
        latest = {numbers[trial.number]: trial for trial in trials if trial.number in numbers}
        return [row_of(trial, self.space, number=number) for number, trial in sorted(latest.items())]

    def number_of(self, trial: Trial | FrozenTrial) -> int:
        """The number of a trial for people, counted from 0."""
        return trial_numbers(self.trials())[trial.number]

    @property
    def _most(self) -> int | None:
        """The number of trials that the settings allow, or None where only updates, minutes or the space end them."""
        settings = self.settings
        if settings.trials is None and settings.updates is None and settings.minutes is None:
            return None if settings.sampler == "grid" else DEFAULT_TRIALS
        return settings.trials

    @property
    def halving(self) -> Halving:
        """The rule by which trials end at rungs."""
        combinations, most = self.space.combinations(), self._most
        ends = [number for number in (most, len(combinations) if combinations is not None else None) if number]
        known = most is not None or (self.settings.updates is None and self.settings.minutes is None)
        return Halving(self.settings.reduction, min(ends) if ends and known else None, max(1, self.settings.finalists))

    def spent(self) -> str:
        """Why no further trial starts, or ""; the budget and, in a finite space, its end."""
        trials = self.trials()
        started = [trial for trial in trials if counts(trial)]
        rows = [row_of(trial, self.space, number=trial.number) for trial in started]
        settings, combinations, most = self.settings, self.space.combinations(), self._most
        if any(trial.state == TrialState.WAITING for trial in trials):
            return ""  # begun once, and so within the budget
        if most is not None and len(started) >= most:
            return f"{most} trials"
        if combinations is not None and len(started) >= len(combinations):
            return f"all {len(combinations)} combinations"
        if settings.updates is not None and sum(row.updates for row in rows) >= settings.updates:
            return f"{settings.updates} updates"
        if settings.minutes is not None and sum(row.seconds for row in rows) >= 60 * settings.minutes:
            return f"{settings.minutes:g} minutes"
        return ""

    def ask(self) -> Trial | None:
        """The next trial; None when another worker took the last one, or left this one out, at the same moment."""
        with reading(self.address):
            try:
                trial = self.study.ask(self.space.distributions())
                trial.set_user_attr("worker", self.worker)
                if self._is_surplus(trial):
                    trial.set_user_attr(SET_ASIDE, "another worker was first")
                    self.study.tell(trial, state=TrialState.FAIL)
                    return None
                for look in trial.user_attrs.get("looks", []):  # of the trial that this one continues
                    trial.report(self._value(look["score"], look["valid_loss"]), step=look["rung"])
            except UpdateFinishedTrialError:  # it asked for longer than ASK_SECONDS
                return None
        return trial

    def value(self, look: Mapping[str, Any]) -> float:
        """What orders a trial among the others at a rung."""
        return self._value(look["score"], look["valid_loss"])

    def _value(self, score: float, valid_loss: float | None) -> float:
        return objective(score, valid_loss if self.by_loss else None)

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether the budget, or the same settings, went to a trial that other workers started at the same moment."""
        if RETAKEN in trial.user_attrs:
            return False
        most, until = self.settings.trials, time.monotonic() + ASK_SECONDS
        while True:
            earlier = [other for other in self.study.get_trials(deepcopy=False) if other.number < trial.number]
            earlier = [other for other in earlier if counts(other)]
            if most is not None and len(earlier) >= most:
                return True
            if any(other.params == trial.params for other in earlier):
                return True
            if all(len(other.params) == len(trial.params) for other in earlier) or time.monotonic() > until:
                return False
            time.sleep(0.05)  # an earlier trial is about to get its settings, which may be the same

    def settings_of(self, trial: Trial) -> Settings:
        """The recipe settings of a trial."""
        return self.space.settings(trial.params)

    def look(self, trial: Trial, look: Look) -> bool:
        """Record a trial at a rung; whether it ends there: it is not among the best so far, or was taken over."""
        with reading(self.address):
            try:
                trial.set_user_attr("looks", [*trial.user_attrs.get("looks", []), asdict(look)])
                trial.report(self._value(look.score, look.valid_loss), step=look.rung)
            except UpdateFinishedTrialError:
                return True
        return self.ends(trial)

    def ends(self, trial: Trial) -> bool:
        """Whether a trial ends at the rung that it was looked at last, given the others that are known by now."""
        looks = trial.user_attrs.get("looks", [])
        if not looks:
            return False
        rung = int(looks[-1]["rung"])
        others = [
            (other.intermediate_values[rung], other.number)
            for other in self.trials()
            if other.number != trial.number and counts(other) and rung in other.intermediate_values
        ]
        return self.halving.ends((self.value(looks[-1]), trial.number), others, rung)

    def pause(self, trial: Trial) -> None:
        """Note that this worker has paused a trial; it still holds it."""
        self._note_pause(trial, paused=True)
        self._paused[trial.number] = trial

    def resume(self, trial: Trial) -> None:
        """Note that this worker goes on with a trial that it had paused."""
        self._paused.pop(trial.number, None)
        self._note_pause(trial, paused=False)

    def _note_pause(self, trial: Trial, *, paused: bool) -> None:
        with reading(self.address), suppress(UpdateFinishedTrialError):  # taken over: its end will say so
            trial.set_user_attr(PAUSED, paused)

    def complete(self, trial: Trial, judgment: Judgment) -> bool:
        """Record a finished trial. False when another worker has taken it over meanwhile."""
        constraint = None
        if judgment.probe_loss is not None:
            constraint = judgment.probe_loss - self.settings.max_probe_loss
        value = self._value(judgment.score, judgment.valid_loss)
        return self._end(trial, asdict(judgment), TrialState.COMPLETE, value=value, constraint=constraint)

    def prune(self, trial: Trial, why: str, *, updates: int = 0, seconds: float = 0.0) -> bool:
        """Record a trial that ended early, at a rung or because it cannot be trained. False as for ``complete``."""
        return self._end(trial, {ENDED: why, "updates": updates, "seconds": seconds}, TrialState.PRUNED)

    def interrupt(self, trial: Trial, why: str) -> None:
        """Record that a trial was interrupted; its settings wait for the next worker or the next start."""
        if self._end(trial, {ENDED: why}, TrialState.FAIL):
            with reading(self.address):
                self._wait_again(trial.number, trial.params, trial.user_attrs, deaths=_deaths(trial.user_attrs))

    def _end(
        self,
        trial: Trial,
        attributes: Mapping[str, Any],
        state: TrialState,
        *,
        value: float | None = None,
        constraint: float | None = None,
    ) -> bool:
        """End a trial of this worker. False when another worker took it for dead and ended it."""
        self._paused.pop(trial.number, None)
        with reading(self.address):
            try:
                for name, attribute in attributes.items():
                    trial.set_user_attr(name, attribute)
                if constraint is not None:
                    trial.set_constraint("probes", constraint)
                self.study.tell(trial, value, state=state)
            except UpdateFinishedTrialError:
                return False
        return True

    def _wait_again(
        self, number: int, parameters: Mapping[str, Any], attributes: Mapping[str, Any], *, deaths: int
    ) -> None:
        """Let the settings of an interrupted trial wait."""
        numbers = [*attributes.get(RETAKEN, []), number]
        retaken = {RETAKEN: numbers, "deaths": deaths, "looks": attributes.get("looks", [])}
        self.study.enqueue_trial(dict(parameters), user_attrs=retaken)

    def _has_settings(self, parameters: Mapping[str, Any]) -> bool:
        return parameters.keys() >= self.space.dimensions.keys()

    def others(self) -> list[TrialRow]:
        """The trials that other workers are running."""
        return [row for row in self.rows() if row.state in ("running", "paused")]

    def take_over(self) -> list[str]:
        """Mark the trials of dead workers as interrupted, so that their settings wait; a line about each of them."""
        lines = []
        for trial in self.trials():
            if trial.state != TrialState.RUNNING or self._is_alive(trial):
                continue
            at_work = BEAT in trial.user_attrs and not trial.user_attrs.get(PAUSED)
            deaths = _deaths(trial.user_attrs) + at_work
            last, begun = deaths >= DEATHS, self._has_settings(trial.params)
            why = (
                f"its worker ended without a word ({str(trial.user_attrs.get('worker', 'unknown')).partition(':')[0]})"
            )
            if last:
                why = f"{deaths} workers ended without a word during it, perhaps for lack of memory"
            with reading(self.address):
                attributes = {ENDED: why} if begun else {ENDED: why, SET_ASIDE: why}
                if not self._end_of_another(trial, attributes, TrialState.PRUNED if last else TrialState.FAIL):
                    continue
                if begun and not last:
                    self._wait_again(trial.number, trial.params, trial.user_attrs, deaths=deaths)
            if begun:
                then = "recorded as pruned" if last else "it is taken up again"
                lines.append(f"trial {self.number_of(trial) + 1}: {why}; {then}")
        return lines

    def _end_of_another(self, trial: FrozenTrial, attributes: Mapping[str, str], state: TrialState) -> bool:
        """End the trial of another worker. False when it has ended meanwhile."""
        storage = self.study._storage
        try:
            for name, attribute in attributes.items():
                storage.set_trial_user_attr(trial._trial_id, name, attribute)
            return storage.set_trial_state_values(trial._trial_id, state=state)
        except UpdateFinishedTrialError:
            return False

    def _is_alive(self, trial: FrozenTrial) -> bool:
        """Whether the worker of a running trial is alive, as far as can be seen from here."""
        worker = str(trial.user_attrs.get("worker", ""))
        if worker == self.worker:
            return trial.number == self._current or trial.number in self._paused
        if _is_gone(worker):
            return False
        beat, now = str(trial.user_attrs.get(BEAT, "")), time.monotonic()
        seen, since = self._beats.get(trial.number, ("", now))
        if trial.number not in self._beats or seen != beat:
            self._beats[trial.number] = (beat, now)
            return True
        return now - since < (SILENT_SECONDS if worker else ASK_SECONDS)

    def remember(self, name: str, compute: Callable[[], Any]) -> Any:
        """A fact about the base, as plain JSON, that the first worker computes for all."""
        with reading(self.address):
            known = self.study.user_attrs.get(name)
        if known is None:
            known = compute()
            with reading(self.address):
                self.study.set_user_attr(name, known)
        return known

    @contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """The trial that this worker runs: a thread writes every few seconds that it is alive."""
        with reading(self.address), suppress(UpdateFinishedTrialError):
            trial.set_user_attr(BEAT, 0)
        stop = threading.Event()
        self._current = trial.number

        def beat() -> None:
            count = 0
            while not stop.wait(BEAT_SECONDS):
                count += 1
                for own in (trial, *list(self._paused.values())):
                    # A storage that fails for a moment must not end the training; the end of the trial says so.
                    with suppress(Exception):
                        self.study._storage.set_trial_user_attr(own._trial_id, BEAT, count)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._current = None


def _deaths(attributes: Mapping[str, Any]) -> int:
    return int(attributes.get("deaths", 0))


def open_study(
    name: str, address: Address, *, space: Space, settings: SweepSettings, seed: int, identity: Mapping[str, Any]
) -> SweepStudy:
    """The study of that name, new or continued.

    ``identity`` is everything that makes its trials comparable: base, data, space and rules, as plain JSON by key.
    Raises ArtifactError, with the differences, for a study of another base, data set or space.
    """
    storage = open_storage(address)
    sampler = SettingSampler(settings.sampler, space, seed=seed, counts=counts)
    with reading(address):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        known = study.user_attrs.get(IDENTITY)
        if known is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(IDENTITY, dict(identity))
            known = study.user_attrs.get(IDENTITY)
    _require_same(known, identity, name, address)
    return SweepStudy(study, address, space, settings, by_loss=not space.varies_dataset)


def _require_same(known: Any, identity: Mapping[str, Any], name: str, address: Address) -> None:
    if not isinstance(known, dict):
        raise ArtifactError(
            f"the study '{name}' was not made by ragtune sweep",
            where=address.shown,
            fix="set sweep.study to a new name",
        )
    changed = [key for key in sorted({*known, *identity}) if known.get(key) != identity.get(key)]
    if changed:
        listing = "\n".join(f"  {key}: {known.get(key)!s:.80} there, {identity.get(key)!s:.80} now" for key in changed)
        raise ArtifactError(
            f"the study '{name}' has trials of another recipe:\n{listing}",
            where=address.shown,
            fix="set sweep.study to a new name (adapters that were trained before are used again), or undo the change",
        )
