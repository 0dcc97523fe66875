"""A broker process for the chaos checks: started, killed, stopped, asked for its counters.

Owns: the process, its ready file, its log.
Does not own: what is checked with it.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import time

READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30


def free_port():
    """A loopback port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def default_binary():
    """The release build, where cargo puts it."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
    return os.environ.get("TIDEWATER_BINARY", os.path.join(root, "target", "release", "tidewater"))


class Died(Exception):
    """The broker ended although it was not told to."""


class Broker:
    """`tidewater serve` on one data directory and one port; may live many times."""

    def __init__(self, folder, binary=None, data_dir=None, port=None, bucket=None, arguments=(), command=None):
        os.makedirs(folder, exist_ok=True)
        self.binary = binary or default_binary()
        self.data_dir = data_dir or os.path.join(folder, "data")
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.ready_file = os.path.join(folder, "ready.json")
        self.log = os.path.join(folder, "broker.log")
        self.bucket = bucket
        self.arguments = list(arguments)
        # Another broker's shell command, to try a check on Apache Kafka; it has no ready file.
        self.command = command
        self.process = None
        atexit.register(self.kill)

    def command_line(self):
        if self.command:
            return ["/bin/sh", "-c", f"exec {self.command}"]
        line = [self.binary, "serve", "--listen", self.address, "--data-dir", self.data_dir, "--ready-file", self.ready_file]
        return line + (["--bucket", self.bucket] if self.bucket else []) + self.arguments

    def spawn(self):
        """Starts without waiting."""
        if os.path.exists(self.ready_file):
            os.remove(self.ready_file)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_ready(self):
        """Waits for the ready file and returns what it says."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Died(f"exit code {self.process.returncode} while starting; its last words: {self.last_words()}")
            ready = self._ready()
            if ready is not None:
                return ready
            time.sleep(0.002)
        raise Died(f"not ready within {READY_SECONDS_MAX} s; its last words: {self.last_words()}")

    def _ready(self):
        if self.command:
            with socket.socket() as probe:
                probe.settimeout(0.5)
                return {} if probe.connect_ex(("127.0.0.1", self.port)) == 0 else None
        try:
            with open(self.ready_file, encoding="utf-8") as file:
                ready = json.load(file)
        except FileNotFoundError:
            return None
        # Written by rename: half a file is an error, not a reason to wait.
        return ready if ready["pid"] == self.process.pid else None

    def start(self):
        self.spawn()
        return self.wait_ready()

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL, and waits for the process to be gone."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()

    def stop(self):
        """SIGTERM; a clean stop leaves with 0 and takes its ready file along."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS_MAX)
        if self.command:
            return
        if code != 0:
            raise Died(f"exit code {code} after SIGTERM, 0 expected; its last words: {self.last_words()}")
        if os.path.exists(self.ready_file):
            raise Died("the ready file is still there after a clean stop")

    def last_words(self):
        """The last line of its log."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, os.path.getsize(self.log) - 4096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return "(no log)"
        return lines[-1] if lines else "(nothing)"

    def stats(self):
        """`tidewater stats --json`, labelled counters as {labels: value}."""
        line = [self.binary, "stats", "--bootstrap", self.address, "--json"]
        said = subprocess.run(line, capture_output=True, timeout=20, check=False)
        if said.returncode != 0:
            raise Died(f"tidewater stats left with {said.returncode}: {said.stderr.decode(errors='replace').strip()}")
        return json.loads(said.stdout)

    def reads_from(self):
        """The counter `reads_from` by source."""
        return {row["source"]: row["value"] for row in self.stats()["reads_from"]}
