"""What the Python client checks share: one line a check, bounded waits, unique names.

Owns: the printed form (`ok - what`, `not ok - what: why`, `n/a - what: why`) and the exit code.
Does not own: any client; each has a script of its own beside this one.
"""

import faulthandler
import inspect
import os
import sys
import time
import uuid

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]

# A check that hangs must not hang the run: everything here takes seconds.
RUN_SECONDS_MAX = 240


class Report:
    """Runs checks, prints a line for each, and ends the process with what came of them."""

    def __init__(self, client, seconds_max=RUN_SECONDS_MAX):
        self.client = client
        self.failed = 0
        self.run_id = uuid.uuid4().hex[:8]
        faulthandler.dump_traceback_later(seconds_max, exit=True)

    def name(self, what):
        """A topic or group name nobody used before."""
        return f"smoke-{self.client}-{what}-{self.run_id}"

    def check(self, what, action):
        """Runs one check; its failure does not stop the next."""
        try:
            action()
        except Exception as why:  # whatever a client raises is a failed check
            self._failed(what, why)
        else:
            self._say(f"ok - {what}")

    async def check_async(self, what, action):
        """The same for a coroutine function."""
        try:
            outcome = action()
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as why:
            self._failed(what, why)
        else:
            self._say(f"ok - {what}")

    def not_applicable(self, what, why):
        """Says that this client has no way to do it."""
        self._say(f"n/a - {what}: {why}")

    def finish(self):
        """Ends the process: 1 when a check failed."""
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        # Clients may leave threads behind; their state is of no interest any more.
        os._exit(1 if self.failed else 0)

    def _failed(self, what, why):
        self.failed += 1
        reason = str(why).replace("\n", " ") or type(why).__name__
        self._say(f"not ok - {what}: {type(why).__name__}: {reason}")

    def _say(self, line):
        print(line, flush=True)


def bootstrap():
    """The broker: the first argument, or BOOTSTRAP."""
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BOOTSTRAP")
    if not address:
        print("usage: SCRIPT HOST:PORT (or BOOTSTRAP=HOST:PORT)", file=sys.stderr)
        sys.exit(2)
    return address


def expect(found, expected, what):
    """Fails unless both are equal."""
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def until(condition, what, seconds=30):
    """Polls until `condition()` is true. The condition itself does the waiting, if any."""
    deadline = time.monotonic() + seconds
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


async def until_async(condition, what, seconds=30):
    """The same for a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        outcome = await condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
