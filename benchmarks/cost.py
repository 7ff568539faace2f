"""Runs a command to its end and writes what it cost to a file: `python cost.py FILE COMMAND...`.

It imports next to nothing: what a process had at most in memory counts for the commands that it starts (Linux takes the
peak of the memory over that a process leaves behind when it executes another program), so a command's peak can only be
told by a parent that is smaller.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Run the command with this process's own standard streams; write its exit code and cost as JSON."""
    file, *command = sys.argv[1:]
    started = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    cost = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory": usage.ru_maxrss * 1024,
    }
    with open(file, "w") as out:
        json.dump(cost, out)


if __name__ == "__main__":
    main()
