#!/usr/bin/python3
"""Whether every SQL statement was executed by some test of this run. Usage: check_statements.py RECORDS

Each test process leaves the names of what it executed in RECORDS. A statement that only a test over sockets reaches
stands in ELSEWHERE, with the reason.
"""
import pathlib
import sys

ELSEWHERE: dict[str, str] = {
    "chat.of_pairs": "e2e.people: a block reaches sockets that are open, through the outbox",
}


def main() -> int:
    records = pathlib.Path(sys.argv[1])
    listed = records / "all-statements.txt"
    if not listed.exists():
        print("no list of statements: the statements test did not run")
        return 1
    known = set(listed.read_text().split())
    executed: set[str] = set()
    for file in records.glob("statements-*.txt"):
        executed |= set(file.read_text().split())
    never = sorted(known - executed - set(ELSEWHERE))
    for name in never:
        print(f"{name}: executed by no test")
    for name in sorted(set(ELSEWHERE) - known):
        print(f"{name}: stands in ELSEWHERE but is no statement any more")
        never.append(name)
    for name in sorted(executed & set(ELSEWHERE)):
        print(f"{name}: stands in ELSEWHERE but is executed here")
        never.append(name)
    print(f"{len(known & executed)} of {len(known)} statements executed")
    return 1 if never else 0


sys.exit(main())
