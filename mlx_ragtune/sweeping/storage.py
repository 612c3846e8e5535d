"""Where a study is kept: Optuna's storages behind one address, and their failures as errors that a user can fix.

The address may hold a password. It is passed to the driver, and appears in no message, log or file: ``shown`` is what
may be printed, and ``reading`` removes the rest from the texts of drivers.
"""

import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from mlx_ragtune.errors import ArtifactError, RagtuneError, RecipeError, ToolError
from mlx_ragtune.jsonl import end_last_line
from mlx_ragtune.recipe_sweep import STORAGE_VARIABLE, storage_problem

LOCK_SECONDS = 30
"""So long another process may hold the lock of an SQLite file."""


DEFAULT = "the run's folder"
CREATE_TRIES = 5
"""How often the tables of a new database are tried, because the workers of a sweep may start at the same time."""


@dataclass(frozen=True)
class Address:
    """Where a study is kept, and who said so: the recipe, the environment, or the default."""

    value: str
    where: str

    @property
    def is_journal(self) -> bool:
        """Whether it is Optuna's journal file."""
        return self.value.startswith("journal:")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is an SQLite file."""
        return self.value.startswith("sqlite")

    @property
    def path(self) -> Path:
        """The file of a journal or an SQLite study."""
        text = self.value.partition(":")[2]
        return Path(re.sub(r"^//(?=/)|\?.*$", "", text) if self.is_journal else re.sub(r"^///|\?.*$", "", text))

    @property
    def shown(self) -> str:
        """The address without user, password and options."""
        if self.is_journal:
            return f"journal:{self.path}"
        scheme, _, rest = self.value.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may hold, longest first."""
        if self.is_journal or self.is_sqlite:
            return ()
        userinfo = self.value.partition("://")[2].rpartition("@")[0]
        password = userinfo.partition(":")[2]
        options = [value for name, value in parse_qsl(urlsplit(self.value).query) if "pass" in name.lower()]
        texts = {self.value, userinfo, password, unquote(password), *options} - {""}
        return tuple(sorted(texts, key=len, reverse=True))


def study_address(written: str | None, *, home: Path, folder: Path) -> Address:
    """The address of a sweep's study: the recipe's, else ``$RAGTUNE_SWEEP_STORAGE``, else a file in the run's folder.

    ``written`` is the recipe's key; relative paths in it start at ``folder``. Raises RecipeError for an address that
    cannot be one.
    """
    environment = os.environ.get("RAGTUNE_SWEEP_STORAGE")
    if written is None and not environment:
        return Address(f"sqlite:///{home / 'sweep' / 'study.sqlite'}", DEFAULT)
    if written is None:
        problem = storage_problem(environment or "")
        if problem and "password" not in problem:
            raise RecipeError(problem, where=STORAGE_VARIABLE, fix=f"set {STORAGE_VARIABLE} to such an address")
        return Address(environment or "", STORAGE_VARIABLE)
    address = Address(written, "sweep.storage")
    if address.is_journal:
        return Address(f"journal:{folder / address.path.expanduser()}", address.where)
    if address.is_sqlite and not address.path.is_absolute():
        return Address(f"sqlite:///{folder / address.path.expanduser()}", address.where)
    return address


class Journal(JournalFileBackend):
    """Optuna's journal file. What a killed process or a full disk left of a last line is removed before the next one.

    It would make one broken line of both, after which Optuna reads nothing of the whole study.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._mutex = path, JournalFileOpenLock(str(path))
        super().__init__(str(path), lock_obj=self._mutex)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write rows at the end of the file."""
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # perhaps of a worker that is writing now
                self._mutex.acquire()
                try:
                    end_last_line(file)
                finally:
                    self._mutex.release()
        finally:
            os.close(file)
        super().append_logs(logs)


def open_storage(address: Address) -> BaseStorage:
    """Optuna's storage at an address; its tables are made if needed. Raises as ``reading``."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with reading(address):
        if address.is_journal or address.is_sqlite:
            address.path.parent.mkdir(parents=True, exist_ok=True)
        if address.is_journal:
            return JournalStorage(Journal(address.path))
        options: dict[str, Any] = {"pool_pre_ping": True}
        if address.is_sqlite:
            options = {"connect_args": {"timeout": LOCK_SECONDS}}
        try:
            return _database(address.value, options)
        except RuntimeError:  # that is all that its check of versions says
            raise ArtifactError(
                "the study was made by another version of Optuna",
                where=address.shown,
                fix="set sweep.storage to another address, or move the study away; trained adapters are used again",
            ) from None


def _database(url: str, options: Mapping[str, Any]) -> RDBStorage:
    """A database, also when other workers are creating the same tables."""
    for _ in range(CREATE_TRIES - 1):
        try:
            return RDBStorage(url, engine_kwargs=dict(options))
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            if isinstance(error, OperationalError) and "already exists" not in str(error):
                raise
            time.sleep(0.5)
    return RDBStorage(url, engine_kwargs=dict(options))


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a storage."""
    storage.remove_session()
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)  # Optuna puts a cache around it
    if engine is not None:
        engine.dispose()


@contextmanager
def reading(address: Address) -> Iterator[None]:
    """While a study is read or written: its failures as ToolError, ArtifactError or RecipeError, without secrets."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, sqlite3.Error, ImportError) as error:
        raise _failure(error, address) from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, optuna.exceptions.UpdateFinishedTrialError):
            raise
        if address.is_journal:
            raise _journal_failure(error, address) from None
        if isinstance(error, OSError):
            raise _failure(error, address) from None
        raise


def _failure(error: Exception, address: Address) -> RagtuneError:
    """What the database or its driver refused."""
    causes, cause = [str(error)], error.__cause__ or error.__context__
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = next((line for line in reversed(causes) if line.strip()), type(error).__name__)
    whole = " ".join(causes).lower()
    reason = without_secrets(" ".join(text.split()), address)[:300]
    if "database is locked" in whole or "database table is locked" in whole:
        return ToolError(
            f"another process holds the lock of the study for more than {LOCK_SECONDS} s",
            where=address.shown,
            fix="stop that process, then run the same command again: finished trials are kept",
        )
    if isinstance(error, ImportError) or "no module named" in whole or "failed to import db access module" in whole:
        driver = "pip install 'mlx-ragtune[postgresql]'" if address.value.startswith("postgres") else "install it"
        return ToolError("the driver of this database is not installed", where=address.shown, fix=driver)
    if isinstance(error, NoSuchModuleError | ArgumentError):
        return RecipeError(
            "not the address of a study",
            where=address.where,
            fix="write postgresql://HOST/NAME, sqlite:///PATH or journal:PATH",
        )
    if "not a database" in whole or "malformed" in whole:
        return ArtifactError(
            "the file of the study is damaged", where=address.shown, fix="move it away, then run the same command again"
        )
    return ToolError(
        f"cannot use the study's storage: {reason}",
        where=address.shown,
        fix="start the database or correct the address, then run the same command again: finished trials are kept",
    )


def _journal_failure(error: Exception, address: Address) -> RagtuneError:
    if isinstance(error, OSError):
        return ToolError(
            f"cannot use the journal: {error.strerror or error}",
            where=address.shown,
            fix="correct the path or its permissions, then run the same command again",
        )
    return ArtifactError(
        "the journal of the study is damaged", where=address.shown, fix="move it away, then run the same command again"
    )


def without_secrets(text: str, address: Address) -> str:
    """The text of a driver without anything that the address keeps secret."""
    for secret in address.secrets:
        text = text.replace(secret, "***")
    return text
