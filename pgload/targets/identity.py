"""Where the secret of a connection comes from; each new connection asks for a new one.

A token is checked only when a connection is opened, and expires within minutes, whereas a migration
may reconnect after hours. So nothing is kept here but a stored password.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shlex
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from typing import Any

from pgload.errors import TargetError, UsageError, message_of

COMMAND_SECONDS = 30.0  # that a password command may take
COMMAND_BYTES = 64 << 10  # that it may print; tokens have some KB
POLL_SECONDS = 0.05  # between two reads of its output
MESSAGE_LENGTH = 120  # of the libraries' errors, some of which list all that they tried
ONLY_PASSWORD = "it has to print the password, and only that"
IN_A_TERMINAL = "run it in a terminal to see why"
WITH_TLS = ("require", "verify-ca", "verify-full")
AZURE_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
GOOGLE_SCOPE = "https://www.googleapis.com/auth/sqlservice.login"
# `….ap-northeast-2.rds.amazonaws.com`, in China `….rds.cn-north-1.amazonaws.com.cn`
_RDS_REGION = re.compile(r"\.(?:([a-z0-9-]+)\.rds|rds\.([a-z0-9-]+))\.amazonaws\.com(?:\.cn)?\.?$")
_SHELL_SIGNS = ("|", "&", ";", ">", "<", "2>")  # that a word begins with
# The libraries' objects are shared by the workers, and not all of them are made for threads.
_LIBRARY_LOCK = threading.Lock()

_running: set[subprocess.Popen[bytes]] = set()  # password commands

Secret = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True)
class Identity:
    """How the secret of a new connection is found.

    `secret` takes the connection's parameters, and gives None where libpq is to look for a password
    itself. It raises `TargetError` when it cannot get one.
    """

    secret: Secret = field(repr=False)
    setting: str | None = None  # to be checked when the server refuses the secret
    renewable: bool = False  # another call may give another secret


def make_identity(
    cloud: str, variables: Mapping[str, str], parameters: Mapping[str, Any], stored: Identity
) -> Identity:
    """The identity that `<CLOUD>_DB_PASSWORD_COMMAND` or `<CLOUD>_DB_AUTH` asks for, else `stored`.

    Raises `UsageError` for more than one way at once, a malformed value, a library that is missing,
    or a token without TLS.
    """
    names = [f"{cloud}_DB_{name}" for name in ("PASSWORD", "PASSWORD_COMMAND", "AUTH")]
    given = [name for name in names if variables.get(name)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are set: set one of them")
    _, command, auth = names
    if given == [command]:
        return password_command(cloud, command, variables[command])
    if given == [auth]:
        kind = variables[auth].strip().lower()
        if kind not in AUTH:
            raise UsageError(f"{auth} is {kind!r}: set one of {', '.join(AUTH)}")
        if parameters.get("sslmode") not in WITH_TLS:
            raise UsageError(
                f"{auth}={kind} needs TLS, as whoever reads the token can use it, but sslmode is "
                f"{parameters.get('sslmode')}: set {cloud}_DB_SSLMODE to require or verify-full"
            )
        return AUTH[kind](cloud, f"{auth}={kind}", variables, parameters)
    return stored


def stored_password(password: str | None = None, setting: str | None = None) -> Identity:
    """A password that does not change; `setting` is the variable that holds it, if one does."""
    return Identity(lambda parameters: password, setting)  # noqa: ARG005


def password_command(cloud: str, variable: str, command: str) -> Identity:
    """What a program prints, run without a shell for each connection; `sh -c '…'` asks for one."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{variable} is malformed: {str(error).lower()}") from None
    if not words:
        raise UsageError(f"{variable} is empty: set it to a program that prints the password")

    def secret(_: Mapping[str, Any]) -> str:
        return _run(words, f"{cloud}: {variable}")

    return Identity(secret, variable, renewable=True)


def _run(words: list[str], where: str) -> str:
    """What a command prints, on one line.

    Raises `TargetError`, which holds nothing of the output, nor of the command: a password or a
    token may have been written into it.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,  # a question has nobody to answer it
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # may hold a part of the secret
            start_new_session=True,  # so that all that it starts can be ended
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is malformed"
        hint = "; for a variable write env NAME=… program" if "=" in words[0] else ""
        raise TargetError(f"{where} cannot be run: {reason.lower()}{hint}") from None
    _running.add(process)
    with process:
        try:
            output = _output_of(process, time.monotonic() + COMMAND_SECONDS)
        except TimeoutError:
            raise TargetError(
                f"{where} gave no password within {COMMAND_SECONDS:g} s: {IN_A_TERMINAL}"
            ) from None
        finally:
            _end(process)
            _running.discard(process)
    if len(output) > COMMAND_BYTES:
        raise TargetError(f"{where} printed over {COMMAND_BYTES >> 10} KB: {ONLY_PASSWORD}")
    if process.returncode:
        shell = any(word.startswith(_SHELL_SIGNS) for word in words)
        hint = "; it runs without a shell: for a pipe write sh -c '…'" if shell else ""
        raise TargetError(
            f"{where} failed with exit code {process.returncode}: {IN_A_TERMINAL}{hint}"
        )
    try:
        password = output.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise TargetError(f"{where} printed what is not UTF-8: {ONLY_PASSWORD}") from None
    if not password:
        raise TargetError(f"{where} printed nothing: {ONLY_PASSWORD}")
    if any(sign in password for sign in "\n\r\0"):
        raise TargetError(f"{where} printed more than one line: {ONLY_PASSWORD}")
    return password


def _output_of(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """What a process prints until it ends, or a little more than COMMAND_BYTES of it.

    A background process that it has started may keep the pipe open, and is not waited for. Raises
    `TimeoutError`.
    """
    assert process.stdout is not None
    pipe, output = process.stdout.fileno(), b""
    os.set_blocking(pipe, False)
    while len(output) <= COMMAND_BYTES:
        ended = process.poll() is not None  # before reading, so that all that it printed is read
        chunk = b""
        with suppress(BlockingIOError):
            chunk = os.read(pipe, COMMAND_BYTES)
        output += chunk
        if ended and not chunk:
            break
        if time.monotonic() > deadline:
            raise TimeoutError
        if not chunk:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
    return output


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with all that it started."""
    if process.poll() is None:
        with suppress(OSError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)


@atexit.register
def _end_running() -> None:
    """End the commands whose thread was not waited for, as after Ctrl-C."""
    for process in list(_running):
        _end(process)


def aws_tokens(
    cloud: str, setting: str, variables: Mapping[str, str], parameters: Mapping[str, Any]
) -> Identity:
    """Tokens for Amazon RDS, signed here with the credentials that boto3 finds; for 15 minutes."""
    host = str(parameters.get("host", ""))
    found = _RDS_REGION.search(host)
    names = ("AWS_REGION", "AWS_DEFAULT_REGION")
    region = found[1] or found[2] if found else next(filter(None, map(variables.get, names)), None)
    if not host or "," in host:
        raise UsageError(f"{setting} needs one host, for which the token is signed: it is {host!r}")
    if region is None:
        raise UsageError(f"{setting} needs a region, which {host!r} does not name: set AWS_REGION")
    boto3 = _library(setting, "boto3", "boto3")
    client = cache(partial(boto3.client, "rds", region_name=region))
    logging.getLogger("botocore.auth").setLevel(logging.INFO)  # for DEBUG it logs the signature

    def token(parameters: Mapping[str, Any]) -> str:
        return str(
            client().generate_db_auth_token(
                DBHostname=parameters["host"],
                Port=int(parameters.get("port", 5432)),
                DBUsername=parameters["user"],
            )
        )

    return _tokens(cloud, setting, token, "aws configure, AWS_PROFILE or an instance role")


def azure_tokens(
    cloud: str, setting: str, *_: Mapping[str, Any], credential: Any = None
) -> Identity:
    """Entra tokens; `credential` is one of azure-identity's, by default whichever it finds."""
    if credential is None:
        credential = _library(setting, "azure.identity", "azure-identity").DefaultAzureCredential()
        logging.getLogger("azure.identity").setLevel(logging.ERROR)  # it prints what it tried

    def token(_: Mapping[str, Any]) -> str:
        return str(credential.get_token(AZURE_SCOPE).token)

    return _tokens(cloud, setting, token, "az login or a managed identity")


def google_tokens(
    cloud: str, setting: str, *_: Mapping[str, Any], credentials: Any = None
) -> Identity:
    """Tokens for Cloud SQL; `credentials` are google-auth's, by default the application's."""
    auth = _library(setting, "google.auth", "google-auth requests")
    transport = _library(setting, "google.auth.transport.requests", "google-auth requests")
    found = [] if credentials is None else [credentials]

    def token(_: Mapping[str, Any]) -> str:
        if not found:
            found.append(auth.default(scopes=[GOOGLE_SCOPE])[0])
        found[0].refresh(transport.Request())
        return str(found[0].token)

    return _tokens(
        cloud, setting, token, "gcloud auth application-default login or a service account"
    )


AUTH: Mapping[str, Callable[..., Identity]] = {
    "aws-iam": aws_tokens,
    "azure-entra": azure_tokens,
    "gcp-iam": google_tokens,
}


def _library(setting: str, module: str, packages: str) -> Any:
    """A module of an optional library. Raises `UsageError` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(f"{setting} needs a library: pip install {packages}") from None


def _tokens(
    cloud: str, setting: str, token: Callable[[Mapping[str, Any]], str], sign_in: str
) -> Identity:
    """The identity with a library's tokens, whose errors become a `TargetError` of one line.

    `sign_in` says where the library finds credentials.
    """

    def secret(parameters: Mapping[str, Any]) -> str:
        try:
            with _LIBRARY_LOCK, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries' own, about Python's version
                return token(parameters)
        except Exception as error:  # they have no common base
            raise TargetError(
                f"{cloud}: {setting} gives no token: {message_of(error)[:MESSAGE_LENGTH]}; "
                f"sign in first ({sign_in})"
            ) from None

    return Identity(secret, setting, renewable=True)
