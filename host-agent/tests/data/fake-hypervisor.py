#!/usr/bin/env python3
"""A fake hypervisor for tests: its machines are processes of this host, one directory for each below the directory
that this program is linked from. `state` holds the state, `macs` the MAC addresses, `pid` the process and `argv`
the arguments to start it again with, NUL between them.
"""

import os
import signal
import subprocess
import sys

here = os.path.dirname(os.path.abspath(sys.argv[0]))
verb, arguments = sys.argv[1], sys.argv[2:]


def path(machine, name):
    return os.path.join(here, "machines", machine, name)


def read(machine, name, default=""):
    try:
        with open(path(machine, name)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return default


def write(machine, name, text):
    with open(path(machine, name) + ".new", "w") as file:
        file.write(text)
    os.rename(path(machine, name) + ".new", path(machine, name))


def send(machine, number):
    try:
        os.kill(int(read(machine, "pid")), number)
    except (ProcessLookupError, ValueError):
        pass


def boot(machine):
    argv = read(machine, "argv").split("\0")
    with open(path(machine, "console"), "a") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    write(machine, "pid", str(process.pid))


def need(machine, *states):
    state = read(machine, "state", "PoweredOff")
    if state not in states:
        sys.exit(f"machine {machine} is {state}")


if verb == "list":
    for machine in sorted(os.listdir(os.path.join(here, "machines"))):
        print(machine, read(machine, "state", "PoweredOff"), read(machine, "macs"), sep="\t")
    sys.exit()

machine = arguments[0]
if verb == "start":
    need(machine, "PoweredOff", "Aborted")
    boot(machine)
    write(machine, "state", "Running")
elif verb == "shutdown":
    need(machine, "Running")
    send(machine, signal.SIGTERM)
    write(machine, "state", "PoweredOff")
elif verb == "power_off":
    need(machine, "Running", "Paused")
    send(machine, signal.SIGKILL)
    write(machine, "state", "PoweredOff")
elif verb == "reset":
    need(machine, "Running")
    send(machine, signal.SIGKILL)
    boot(machine)
elif verb == "pause":
    need(machine, "Running")
    send(machine, signal.SIGSTOP)
    write(machine, "state", "Paused")
elif verb == "resume":
    need(machine, "Paused")
    send(machine, signal.SIGCONT)
    write(machine, "state", "Running")
elif verb == "console":
    print(path(machine, "console"))
else:
    sys.exit(f"a fake hypervisor has no {verb}")
