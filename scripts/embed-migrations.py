#!/usr/bin/env python3
"""Turns numbered migrations (NNNN_name.sql) into a C header: embed-migrations.py OUTPUT FILE...

The header defines `static const struct pg_migration migrations[]`, in order. Numbers must run 1, 2, 3, ...
so that two branches cannot both add the same one unnoticed.
"""
import os
import re
import sys


def c_string(text: str) -> str:
    lines = []
    for line in text.splitlines():
        escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
        lines.append(f'\t\t"{escaped}\\n"')
    return "\n".join(lines)


def main(output: str, files: list[str]) -> int:
    rows = []
    for expected, path in enumerate(sorted(files, key=os.path.basename), start=1):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", os.path.basename(path))
        if not match or int(match[1]) != expected:
            print(f"{path}: migration number {expected:04} was expected here", file=sys.stderr)
            return 1
        with open(path, encoding="utf-8") as f:
            rows.append(f'\t{{ .number = {expected}, .name = "{match[2]}", .sql =\n{c_string(f.read())} }},')
    with open(output, "w", encoding="utf-8") as f:
        f.write("/* Made from the sql/ folder by scripts/embed-migrations.py. */\n"
                '#include "common/io/pg.h"\n\n'
                "static const struct pg_migration migrations[] = {\n" + "\n".join(rows) + "\n};\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
