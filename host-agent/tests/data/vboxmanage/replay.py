#!/usr/bin/env python3
"""A replay of VBoxManage, for tests: no VirtualBox is here.

It answers with recorded output of the real program, and only to the calls that the scenario beside it expects:
scenario.jsonl, one object a line, with `argv` (the arguments) and `record` (the name of the record that is the
answer). Each step is good for one call. A call that no step is left for is written to the file `unexpected` and
ends with 97. Uuids in the scenario are those of the recordings.
"""

import fcntl
import json
import os
import sys

here = os.path.dirname(os.path.abspath(sys.argv[0]))
data = os.path.dirname(os.path.realpath(__file__))
argv = sys.argv[1:]

with open(os.path.join(here, "used"), "a+") as used:
    fcntl.flock(used, fcntl.LOCK_EX)
    used.seek(0)
    done = {int(line) for line in used}
    with open(os.path.join(here, "scenario.jsonl")) as scenario:
        steps = [json.loads(line) for line in scenario]
    for number, step in enumerate(steps):
        if number not in done and step["argv"] == argv:
            used.write(f"{number}\n")
            break
    else:
        with open(os.path.join(here, "unexpected"), "a") as unexpected:
            unexpected.write(json.dumps(argv) + "\n")
        sys.stderr.write(f"replay of VBoxManage: no step is left for {argv}\n")
        sys.exit(97)

name = step["record"]
for recording in sorted(os.listdir(data)):
    if not recording.endswith(".jsonl"):
        continue
    with open(os.path.join(data, recording)) as lines:
        for line in lines:
            record = json.loads(line)
            if record["name"] == name:
                sys.stdout.write(record["stdout"])
                sys.stderr.write(record["stderr"])
                sys.exit(record["exit"])
sys.stderr.write(f"replay of VBoxManage: no record {name}\n")
sys.exit(98)
