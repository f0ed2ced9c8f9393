"""Headless Chromium for tests, driven over its DevTools protocol through a pair of pipes.

A pipe needs no port and no package: messages are JSON, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LONG = 60.0  # seconds, after which something that should happen will not
LOOK = 0.05  # seconds between two looks at a page
# Chromium takes its pipes as numbers 3 and 4.
EXEC = """import os, sys
reads, writes, *command = sys.argv[1:]
os.dup2(int(reads), 3)
os.dup2(int(writes), 4)
os.execv(command[0], command)
"""
TEXT = "document.body?.innerText ?? ''"  # there is no body while a page is changed for another
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Page:
    """One page of a browser. `complaints` are the errors of its console and of its scripts."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._rest = b""
        self._number = 0
        self.complaints: list[str] = []
        (target,) = [
            each["targetId"]
            for each in self._call("Target.getTargets")["targetInfos"]
            if each["type"] == "page"
        ]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the page's session answers."""
        return self._call(method, session=self._session, **parameters)

    def open(self, address: str) -> None:
        """Begin to load an address."""
        self.call("Page.navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, (script, answer)
        return answer["result"].get("value")

    def until(self, script: str, holds: Callable[[Any], bool] = bool) -> Any:
        """The value of an expression as soon as `holds` is true of it."""
        end = time.monotonic() + LONG
        while not holds(value := self.evaluate(script)):
            assert time.monotonic() < end, f"{script} is {value!r}; the page: {self.text!r}"
            time.sleep(LOOK)
        return value

    def until_it_says(self, text: str) -> None:
        """Wait until a text is to be read on the page."""
        self.until(TEXT, lambda said: text in said)

    @property
    def text(self) -> str:
        """What is to be read on the page."""
        return str(self.evaluate(TEXT))

    def size(self, width: int, height: int = 900) -> None:
        """Give the window that size, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def screenshot(self, path: Path) -> None:
        """Keep what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        for answer in self._read():
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            if answer.get("method") in COMPLAINTS:
                self._listen(answer["params"])
        raise AssertionError("the browser has ended")

    def _read(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in self._rest:
                piece = os.read(self._answers, 1 << 16)
                if not piece:
                    return
                self._rest += piece
            message, _, self._rest = self._rest.partition(b"\0")
            yield json.loads(message)

    def _listen(self, told: dict[str, Any]) -> None:
        level = told.get("type") or told.get("entry", {}).get("level") or "error"
        if level in ("error", "assert"):
            self.complaints.append(json.dumps(told)[:2000])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, which ends with the block."""
    assert CHROMIUM is not None
    pipes = [*os.pipe(), *os.pipe()]
    # Above all numbers that they get below.
    theirs_in, ours_out, ours_in, theirs_out = (fcntl.fcntl(n, fcntl.F_DUPFD, 10) for n in pipes)
    for each in pipes:
        os.close(each)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    options += ["--lang=en-US", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", EXEC, str(theirs_in), str(theirs_out), CHROMIUM, *options],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(ours_out, ours_in)
    finally:
        os.close(ours_out)  # which ends it
        os.close(ours_in)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
