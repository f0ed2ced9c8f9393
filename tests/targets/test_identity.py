"""The secret of a connection: stored, printed by a command, or a token of a cloud's library."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import shlex
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import pytest

from pgload.errors import RefusedLoginError, TargetError, UsageError
from pgload.targets import identity
from pgload.targets.cloud import cloud_target
from pgload.targets.identity import azure_tokens, google_tokens, password_command
from pgload.targets.target import Target
from tests.support.checkout import QUICK, Run
from tests.support.environment import ROOT
from tests.support.servers import SECRET, password_server, rotating_command, set_password
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[Target, dict[str, str]]]:
    """A server on TCP with passwords: its superuser's target, and variables of the cloud GCP."""
    with password_server() as found:
        yield found


@pytest.fixture
def configured(
    started: tuple[Target, dict[str, str]],
) -> Iterator[Callable[..., Target]]:
    """Makes the target of the server's cloud, without a password where none is given."""
    admin, variables = started

    def make(**given: str) -> Target:
        names = {f"GCP_DB_{name}": value for name, value in given.items()}
        return cloud_target("GCP", {**variables, "GCP_DB_PASSWORD": "", **names})

    yield make
    set_password(admin, SECRET)


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_command_for_each_connection(
    started: tuple[Target, dict[str, str]], configured: Callable[..., Target], tmp_path: Path
) -> None:
    """The command is called once for each connection, and what it prints is used for that one."""
    log = tmp_path / "passwords"
    target = configured(PASSWORD_COMMAND=rotating_command(started[0], log))
    assert not log.exists()
    for number in (1, 2, 3):
        target.connect().close()
        assert len(set(log.read_text().split())) == number


def test_refused_once_more(
    started: tuple[Target, dict[str, str]], configured: Callable[..., Target], tmp_path: Path
) -> None:
    """A refused secret is asked for once more, and only once; a stored password not even that."""
    calls = tmp_path / "calls"
    program = f"f = open({str(calls)!r}, 'a+'); f.write('.'); print('pass', f.tell(), sep='')"
    target = configured(PASSWORD_COMMAND=python(program))
    set_password(started[0], "pass2")
    target.connect().close()
    with pytest.raises(RefusedLoginError, match=r"check GCP_DB_USER and GCP_DB_PASSWORD_COMMAND$"):
        target.connect()
    assert calls.read_text() == "...."
    with pytest.raises(RefusedLoginError, match=r"check GCP_DB_USER and GCP_DB_PASSWORD$"):
        configured(PASSWORD="pass1").connect()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (python("import sys; print('s3cret'); sys.exit(3)"), "failed with exit code 3: run it in"),
        (python("pass"), "printed nothing: it has to print the password, and only that"),
        (python("print()"), "printed nothing"),
        (python("print('s3cret\\ns3cret')"), "printed more than one line"),
        (python("while True: print('s3cret' * 999)"), "printed over 64 KB"),
        (
            python("import sys; sys.stdout.buffer.write(b's3cret\\xff')"),
            "printed what is not UTF-8",
        ),
        ("s3cret", "cannot be run: no such file or directory$"),
        ("TOKEN=s3cret vault read", "cannot be run: .*; for a variable write env NAME=… program"),
        (
            "cat /nowhere/s3cret 2>/dev/null",
            "failed with exit code 1: .* without a shell: for a pipe write sh -c",
        ),
    ],
    ids=["fails", "empty", "blank", "lines", "endless", "bytes", "missing", "variable", "shell"],
)
def test_command_without_a_password(program: str, message: str) -> None:
    """A command that gives no password is an error of one line, which shows neither its output nor
    the command."""
    with pytest.raises(TargetError, match=rf"^GCP: GCP_DB_PASSWORD_COMMAND {message}") as caught:
        password_command("GCP", "GCP_DB_PASSWORD_COMMAND", program).secret({})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "program", ["sh -c 'sleep 61.5; echo late'", "sh -c 'exec >&-; sleep 61.5'"], ids=str
)
def test_slow_command(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that takes too long is ended, with all that it started."""
    monkeypatch.setattr(identity, "COMMAND_SECONDS", 0.5)
    begin = time.monotonic()
    with pytest.raises(TargetError, match=r"gave no password within 0\.5 s: run it in a terminal"):
        password_command("GCP", "GCP_DB_PASSWORD_COMMAND", program).secret({})
    assert time.monotonic() - begin < 10
    wait_until(lambda: not any("61.5" in each for each in command_lines()))


def test_background_process() -> None:
    """What a command starts in the background, such as an agent, is not waited for, nor ended."""
    program = "sh -c 'sleep 62.5 & echo $!'"
    begin = time.monotonic()
    pid = password_command("GCP", "GCP_DB_PASSWORD_COMMAND", program).secret({})
    assert time.monotonic() - begin < 10
    assert pid is not None
    psutil.Process(int(pid)).kill()


def test_interrupted_command(tmp_path: Path) -> None:
    """A command that still runs when the process ends, as after Ctrl-C, is ended with it."""
    code = (
        "import threading, time\n"
        "from pathlib import Path\n"
        "from pgload.targets.identity import password_command\n"
        "program = \"sh -c 'echo > started; sleep 63.5'\"\n"
        "secret = password_command('GCP', 'GCP_DB_PASSWORD_COMMAND', program).secret\n"
        "threading.Thread(target=secret, args=({},), daemon=True).start()\n"
        "while not Path('started').exists(): time.sleep(0.02)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    wait_until(lambda: not any("63.5" in each for each in command_lines()))


def test_no_variable_of_a_traceback_holds_it(configured: Callable[..., Target]) -> None:
    """An error has no frame with the secret in a variable, as `pytest -l` shows variables."""
    two_lines = shlex.join(["printf", f"{SECRET}\\n{SECRET}\\n"])
    for given in ({"PASSWORD": SECRET, "NAME": "missing"}, {"PASSWORD_COMMAND": two_lines}):
        target = configured(**given)
        with pytest.raises(TargetError, match=r"no database|more than one line") as caught:
            target.connect()
        del given
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        assert [frame.f_code.co_name for frame in frames[1:]] == ["connect"]
        assert SECRET not in repr(frames[1].f_locals)


def command_lines() -> list[str]:
    """The process list."""
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


def test_shell_only_on_request() -> None:
    """What a shell would expand is passed as it stands; `sh -c` asks for a shell."""

    def secret(program: str) -> str | None:
        return password_command("GCP", "GCP_DB_PASSWORD_COMMAND", program).secret({})

    assert secret("echo $HOME '; a  b' | cat") == "$HOME ; a  b | cat"
    assert secret("sh -c 'echo a1b2 | tr ab xy'") == "x1y2"
    assert secret("printf 'no newline \\303\\266'") == "no newline ö"
    assert secret("printf 'carriage return\\r\\n'") == "carriage return"


def test_malformed_command(configured: Callable[..., Target]) -> None:
    """A command that cannot be split into words is an error before anything is connected."""
    with pytest.raises(UsageError, match="GCP_DB_PASSWORD_COMMAND is malformed: no closing quot"):
        configured(PASSWORD_COMMAND="echo 'a")
    with pytest.raises(UsageError, match="GCP_DB_PASSWORD_COMMAND is empty"):
        configured(PASSWORD_COMMAND=" ")


def test_one_way(configured: Callable[..., Target]) -> None:
    """Two ways to find the secret are an error that names both; a URL's password is the last."""
    url = "postgresql://owner:in-url@h/owned"
    program = {"GCP_DB_PASSWORD_COMMAND": "echo printed"}
    target = cloud_target("GCP", {"GCP_DATABASE_URL": url} | program)
    assert target.with_secret()["password"] == "printed"
    with pytest.raises(UsageError, match=r"^GCP_DB_PASSWORD and GCP_DB_AUTH are set: set one of"):
        configured(PASSWORD=SECRET, AUTH="gcp-iam")


def test_nothing_of_it_in_a_saved_run(
    started: tuple[Target, dict[str, str]], checkout: Path, run: Run, tmp_path: Path
) -> None:
    """A benchmark asks the command for each connection, and saves and prints nothing of it."""
    admin, variables = started
    with closing(admin.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("GRANT CREATE ON DATABASE owned TO owner")
    log = tmp_path / "passwords"
    given = {**variables, "GCP_DB_PASSWORD_COMMAND": rotating_command(admin, log)}
    del given["GCP_DB_PASSWORD"]
    lines = [f"{name}={value}" for name, value in given.items()]
    (checkout / ".env").write_text("\n".join(lines))
    one = ("--batch-size", "60", "--connections", "2", "--method", "copy")
    done = run("pytest", "benchmarks", "--cloud", "GCP", *one, *QUICK)
    assert done.returncode == 0, done.stdout
    passwords = log.read_text().split()
    assert len(passwords) >= 3
    (saved,) = (checkout / ".benchmarks").glob("*/*.json")
    files = [saved, *(path for path in (checkout / "reports").rglob("*") if path.is_file())]
    texts = [done.stdout, done.stderr, *(path.read_text("utf-8") for path in files)]
    assert not any(password in text for password in passwords for text in texts)


def test_refused_during_a_benchmark(
    started: tuple[Target, dict[str, str]], checkout: Path, run: Run, tmp_path: Path
) -> None:
    """A login that is refused after the first one ends the run, not one setting after another."""
    admin, variables = started
    with closing(admin.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("GRANT CREATE ON DATABASE owned TO owner")
    set_password(admin, SECRET)
    calls, script = tmp_path / "calls", tmp_path / "script.py"
    script.write_text(
        f"calls = open({str(calls)!r}, 'a+')\ncalls.write('.')\n"
        f"print({SECRET!r} if calls.tell() == 1 else 'wrong')\n"
    )
    command = f"{sys.executable} {script}"
    given = {**variables, "GCP_DB_PASSWORD": "", "GCP_DB_PASSWORD_COMMAND": command}
    lines = [f"{name}={value}" for name, value in given.items()]
    (checkout / ".env").write_text("\n".join(lines))
    two = ("--batch-size", "60", "--connections", "1", "--method", "copy,json")
    done = run("pytest", "benchmarks", "--cloud", "GCP", *two, *QUICK)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("the server refuses the password") == 1
    assert calls.read_text() == "..."


class StandIn:
    """A credential as azure-identity's and google-auth's, with a token of its own at each call."""

    def __init__(self) -> None:
        self.scopes: list[str] = []
        self.token: str | None = None
        self._calls = 0

    def get_token(self, *scopes: str) -> SimpleNamespace:
        self.scopes += scopes
        self.refresh(None)
        return SimpleNamespace(token=self.token)

    def refresh(self, request: object) -> None:  # noqa: ARG002
        warnings.warn("an error under pytest", stacklevel=1)
        self._calls += 1
        self.token = f"token{self._calls}-" + "x" * 2000


def test_entra_token(
    started: tuple[Target, dict[str, str]], configured: Callable[..., Target]
) -> None:
    """Each connection has a token of its own of Azure's scope for PostgreSQL."""
    credential = StandIn()
    tokens = azure_tokens("GCP", "GCP_DB_AUTH=azure-entra", credential=credential)
    check_tokens(started[0], configured(), tokens)
    assert set(credential.scopes) == {"https://ossrdbms-aad.database.windows.net/.default"}


def test_google_token(
    started: tuple[Target, dict[str, str]], configured: Callable[..., Target]
) -> None:
    """Each connection has a token of its own of the application's credentials."""
    pytest.importorskip("google.auth")
    tokens = google_tokens("GCP", "GCP_DB_AUTH=gcp-iam", credentials=StandIn())
    check_tokens(started[0], configured(), tokens)


def check_tokens(admin: Target, target: Target, tokens: identity.Identity) -> None:
    """The server gets the tokens as passwords: the first, then the second, then two others."""
    target = Target("GCP", target.parameters, tokens)
    for number in (1, 2):
        set_password(admin, f"token{number}-" + "x" * 2000)
        target.connect().close()
    with pytest.raises(RefusedLoginError, match=f"and {tokens.setting}$") as caught:
        target.connect()
    assert "token" not in str(caught.value)
    assert tokens.secret({}) == "token5-" + "x" * 2000


def test_no_token() -> None:
    """A library that finds no credentials is an error of one line with its reason."""

    class Broken(StandIn):
        def refresh(self, request: object) -> None:  # noqa: ARG002
            raise RuntimeError("no\n  credentials" + "." * 999)

    tokens = azure_tokens("AZURE", "AZURE_DB_AUTH=azure-entra", credential=Broken())
    with pytest.raises(
        TargetError,
        match=r"^AZURE: AZURE_DB_AUTH=azure-entra gives no token: no credentials\.+; .*az login",
    ) as caught:
        tokens.secret({})
    assert len(str(caught.value)) < 250


RDS = {
    "AWS_DB_HOST": "db.abcdefgh.ap-northeast-2.rds.amazonaws.com",
    "AWS_DB_NAME": "postgres",
    "AWS_DB_USER": "loader",
    "AWS_DB_AUTH": "aws-iam",
}
KEY_ID, KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials as boto3 finds them."""
    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)


def signature(token: str, region: str) -> str:
    """The signature that AWS expects of a token: version 4, of a presigned GET for rds-db."""
    url = urlsplit(f"https://{token}")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    del query["X-Amz-Signature"]
    canonical = "&".join(
        f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query)
    )
    empty = hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n{canonical}\nhost:{url.netloc}\n\nhost\n{empty}"
    moment = query["X-Amz-Date"]
    scope = f"{moment[:8]}/{region}/rds-db/aws4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("more", "region"),
    [
        ({}, "ap-northeast-2"),
        ({"AWS_DB_HOST": "db.abcdefgh.rds.cn-north-1.amazonaws.com.cn"}, "cn-north-1"),
        ({"AWS_DB_HOST": "db.example", "AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DB_HOST": "db.example", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
    ],
)
def test_aws_token(more: dict[str, str], region: str, caplog: pytest.LogCaptureFixture) -> None:
    """The token is for the connection's host, port and user, has AWS's signature, and is in no
    log."""
    caplog.set_level(logging.DEBUG)
    target = cloud_target("AWS", RDS | more | {"AWS_DB_PORT": "6432"})
    token = target.with_secret()["password"]
    url = urlsplit(f"https://{token}")
    query = parse_qs(url.query)
    assert url.netloc == f"{target.parameters['host']}:6432"
    assert (query["Action"], query["DBUser"]) == (["connect"], ["loader"])
    assert int(query["X-Amz-Expires"][0]) == 900
    assert query["X-Amz-Signature"] == [signature(token, region)]
    assert query["X-Amz-Signature"][0] not in caplog.text


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"AWS_DB_HOST": "db.example"}, "^AWS_DB_AUTH=aws-iam needs a region, .*: set AWS_REGION"),
        ({"AWS_DB_HOST": "one,two"}, "^AWS_DB_AUTH=aws-iam needs one host, .*: it is 'one,two'"),
        ({"AWS_DB_SSLMODE": "prefer"}, "^AWS_DB_AUTH=aws-iam needs TLS, .* set AWS_DB_SSLMODE"),
        ({"AWS_DB_AUTH": "iam"}, "^AWS_DB_AUTH is 'iam': set one of aws-iam, azure-entra, gcp-iam"),
    ],
)
def test_token_that_cannot_be(more: dict[str, str], message: str) -> None:
    """A token needs TLS, one host and a region; a wrong name gets the list of right ones."""
    with pytest.raises(UsageError, match=message):
        cloud_target("AWS", RDS | more)


@pytest.mark.parametrize(
    ("auth", "module", "packages"),
    [
        ("aws-iam", "boto3", "boto3"),
        ("azure-entra", "azure.identity", "azure-identity"),
        ("gcp-iam", "google.auth", "google-auth requests"),
    ],
)
def test_missing_library(
    auth: str, module: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that is not installed is an error of one line with the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught:
        cloud_target("AWS", RDS | {"AWS_DB_AUTH": auth})
    assert str(caught.value) == f"AWS_DB_AUTH={auth} needs a library: pip install {packages}"


def test_nothing_is_kept() -> None:
    """Neither a connection nor an identity shows its secret."""
    made: Any = password_command("GCP", "GCP_DB_PASSWORD_COMMAND", "echo s3cret")
    assert made.secret({}) == "s3cret"
    assert "s3cret" not in repr(made)
    assert "s3cret" not in repr(identity.stored_password("s3cret"))
