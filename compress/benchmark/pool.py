"""Worker processes, seen from the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import compress
from compress.benchmark.config import BenchConfig
from compress.benchmark.targets import Entry
from compress.errors import CompressError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Worker:
    """One process that holds one entry's model; as a context it is gone at the end, whatever happens.

    Args:
        entry: who it is, for messages.
        path: the folder (torch) or file (onnxruntime) to load.
        config: threads and device.
        log: file for its stderr.
    """

    def __init__(self, entry: Entry, path: Path, config: BenchConfig, log: Path) -> None:
        self.entry, self.log = entry, log
        options = {
            "runtime": entry.runtime,
            "path": str(path.absolute()),
            "threads": config.threads,
            "device": config.device,
        }
        # Its own session: Ctrl-C reaches the controller alone, which then ends its workers. Should the
        # controller be killed, the worker reads the end of its input and goes.
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "compress.benchmark.worker", json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(config.threads),
                start_new_session=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()  # it has no state to save
        self.process.wait()
        self.stdout.close()
        try:
            self.stdin.close()
        except BrokenPipeError:  # a request it never read
            pass

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            CompressError: the worker died; with the entry and the last lines of its stderr.
        """
        self.send(request)
        return self.receive()

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request without waiting."""
        try:
            self.stdin.write(json.dumps(request).encode() + b"\n")
            self.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> dict[str, Any]:
        """Wait for the next answer."""
        line = self.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> CompressError:
        code = self.process.wait()
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines()]
        last = " | ".join([line for line in lines if line][-3:]) or "it wrote nothing on stderr"
        ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        memory = "Signal 9 mostly means that memory ran out: bench fewer or smaller models at once. "
        return CompressError(
            f"the worker {ending}: {last}",
            place=f"bench: {self.entry}",
            remedy=(memory if code == -9 else "") + "Leave this model or runtime out to bench the others.",
        )


def _environment(threads: int) -> dict[str, str]:
    """Return the worker's environment: threads pinned, this package importable, no hub."""
    home = str(Path(compress.__file__).parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    pinned = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return os.environ | pinned | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
