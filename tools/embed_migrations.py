#!/usr/bin/env python3
"""Turns migrations/NNNN_name.up.sql and .down.sql into one C++ file with their names, texts and SHA-256.

Usage: embed_migrations.py DIRECTORY OUT.cpp
Numbers run from 0001 without a gap, each with an up and a down file. A file runs inside a transaction of the migrator's
and must not end it.
"""
import hashlib
import pathlib
import re
import sys

NAME = re.compile(r"(\d{4})_([a-z][a-z0-9_]*)\.(up|down)\.sql")
TRANSACTION = re.compile(r"^\s*(begin|start\s+transaction|commit|rollback|end)\b[^;]*;", re.IGNORECASE | re.MULTILINE)
BODY = re.compile(r"(\$[a-z_]*\$).*?\1|--[^\n]*|'(?:[^']|'')*'", re.DOTALL | re.IGNORECASE)
PIECE = 8000  # compilers are only bound to take literals of 64 KiB, and editors like less


def literal(text: str) -> str:
    if ')HZ"' in text:
        sys.exit('a migration holds the raw string delimiter )HZ"')
    pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)] or [""]
    return "\n        ".join(f'R"HZ({piece})HZ"' for piece in pieces)


def main() -> None:
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    found: dict[int, dict[str, str]] = {}
    for path in sorted(source.glob("*.sql")):
        match = NAME.fullmatch(path.name)
        if match is None:
            sys.exit(f"{path}: a migration is called NNNN_snake_case.up.sql or .down.sql")
        version, name, way = int(match[1]), match[2], match[3]
        entry = found.setdefault(version, {"name": name})
        if entry["name"] != name:
            sys.exit(f"{path}: version {version} is called {entry['name']} as well")
        text = path.read_text(encoding="utf-8")
        if TRANSACTION.search(BODY.sub("", text)):
            sys.exit(f"{path}: the migrator opens and ends the transaction")
        entry[way] = text
    lines = [
        f"// Made from {source.name}/ by tools/embed_migrations.py.",
        '#include "db/migrations.hpp"',
        "",
        "namespace hourz::db {",
        "",
        "const std::vector<Migration>& embedded_migrations() {",
        "  static const std::vector<Migration> all = {",
    ]
    for expected, (version, entry) in enumerate(sorted(found.items()), start=1):
        if version != expected:
            sys.exit(f"{source}: migration {expected:04} is missing before {version:04}")
        if "up" not in entry or "down" not in entry:
            sys.exit(f"{source}: {version:04}_{entry['name']} lacks its up or its down file")
        checksum = hashlib.sha256(entry["up"].encode()).hexdigest()
        lines += [
            f'      {{{version}, "{entry["name"]}",',
            f"        {literal(entry['up'])},",
            f"        {literal(entry['down'])},",
            f'       "{checksum}"}},',
        ]
    lines += ["  };", "  return all;", "}", "", "}  // namespace hourz::db"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


main()
