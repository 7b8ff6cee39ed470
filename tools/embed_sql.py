#!/usr/bin/env python3
"""Turns a room's .sql file into a C++ header with one db::Statement constant per statement.

A statement opens with `-- name: room.statement`, then a comment that says why, then SQL with parameters by name
(`:latitude`), which become $1, $2 … in the order of their first appearance. `-- fragment: word` opens a text that later
statements take in with `@word@`. Usage: embed_sql.py IN.sql OUT.hpp
"""
import pathlib
import re
import sys

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)            # to the end of the line
      | (?P<string>'(?:[^']|'')*')       # a literal
      | (?P<dollar>\$\$.*?\$\$)          # a dollar-quoted body
      | (?P<cast>::)                     # a cast, not a parameter
      | :(?P<param>[a-z_][a-z0-9_]*)     # a parameter by name
    """,
    re.VERBOSE | re.DOTALL,
)


def translate(sql: str) -> tuple[str, list[str]]:
    names: list[str] = []

    def put(match: re.Match) -> str:
        if match["comment"] is not None:
            return ""
        name = match["param"]
        if name is None:
            return match[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = TOKEN.sub(put, sql)
    text = "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
    return text.strip().rstrip(";"), names


def main() -> None:
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    parts = re.split(r"^-- (name|fragment): (\S+)[ ]*$", source.read_text(), flags=re.MULTILINE)
    room = source.stem
    lines = [
        f"// Made from {source.name} by tools/embed_sql.py.",
        "#pragma once",
        '#include "db/statement.hpp"',
        "",
        f"namespace hourz::{room}::sql {{",
    ]
    seen: set[str] = set()
    fragments: dict[str, str] = {}
    for kind, name, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        body = re.sub(r"@([a-z_]+)@", lambda use: fragments[use[1]], body)
        if kind == "fragment":
            fragments[name] = body.strip()
            continue
        if not re.fullmatch(rf"{room}\.[a-z][a-z0-9_]*", name):
            sys.exit(f"{source}: statement name {name!r} must be {room}.<snake_case>")
        if name in seen:
            sys.exit(f"{source}: statement {name!r} twice")
        if not body.lstrip().startswith("--"):
            sys.exit(f"{source}: statement {name!r} lacks the sentence that says why")
        seen.add(name)
        text, names = translate(body)
        if ")HZ\"" in text:
            sys.exit(f"{source}: statement {name!r} holds the raw string delimiter")
        joined = ",".join(names)
        lines.append(f'inline constexpr db::Statement {name.split(".")[1]}{{"{name}", "{joined}", R"HZ({text})HZ"}};')
    lines.append(f"}}  // namespace hourz::{room}::sql")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")


main()
