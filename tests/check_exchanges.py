#!/usr/bin/python3
"""Holds the exchanges that the tests recorded against the committed docs/openapi.json, by python3-jsonschema
(Draft 2020-12): a second opinion on what tests/harness/schema_checker.cpp says at once (E01). No refusal shows anything of
our insides (E02).
Usage: check_exchanges.py RECORDS OPENAPI
"""
import json
import pathlib
import re
import sys
import warnings

import jsonschema

# Of the database, its driver, the language and the machine. The tables' names are those that no field has.
INSIDES = re.compile(
    r"SQLSTATE|libpq|pq:|PGRES|ERROR:|relation \\?\"|duplicate key|violates|boost|asio|std::|hourz::|\.[ch]pp\b|/src/|/usr/|/tmp/"
    r"|0x[0-9a-f]{8}|\b(gig_(events|cells|assignments)|chat_(rooms|messages|participants)|ledger_\w+|idempotency_keys|upload_sums)\b")


def main() -> int:
    records, document = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
    warnings.simplefilter("ignore", DeprecationWarning)  # Debian 12 has both the old and the new way
    resolver = jsonschema.RefResolver.from_schema(document)
    validators: dict[tuple, jsonschema.Draft202012Validator] = {}
    count = faults = 0
    operations = set()
    for file in sorted(records.glob("exchanges-*.jsonl")):
        for line in file.read_text().splitlines():
            exchange = json.loads(line)
            count += 1
            key = (exchange["method"], exchange["path"], exchange["status"], exchange["type"])
            operations.add(key[:2])
            try:
                if key not in validators:
                    responses = document["paths"][exchange["path"]][exchange["method"]]["responses"]
                    schema = responses[str(exchange["status"])]["content"][exchange["type"]]["schema"]
                    validators[key] = jsonschema.Draft202012Validator(
                        schema, resolver=resolver, format_checker=jsonschema.FormatChecker()
                    )
                error = next(validators[key].iter_errors(exchange["body"]), None)
            except KeyError as missing:
                error = f"the document does not declare {missing}"
            if exchange["status"] >= 400 and (shown := INSIDES.search(json.dumps(exchange["body"]))):
                error = f"shows {shown[0]}"
            if error is not None:
                faults += 1
                if faults <= 20:
                    print(key, getattr(error, "message", error), json.dumps(exchange["body"])[:400], sep="\n  ")
    print(f"{count} exchanges of {len(operations)} operations, {faults} faults")
    if count == 0:
        print("nothing was recorded")
    return 1 if faults or count == 0 else 0


sys.exit(main())
