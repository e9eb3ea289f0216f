#!/usr/bin/env python3
"""Turns a JSON file into a C header with its compact text: embed-json.py OUTPUT NAME FILE"""
import json
import sys

output, name, source = sys.argv[1:]
with open(source, encoding="utf-8") as f:
    text = json.dumps(json.load(f), ensure_ascii=False, separators=(",", ":"))
parts = [text[i:i + 96] for i in range(0, len(text), 96)]
with open(output, "w", encoding="utf-8") as f:
    f.write(f"/* Made from {name}.json by scripts/embed-json.py. */\n#pragma once\n\nstatic const char {name}_json[] =\n")
    f.write("\n".join('\t"' + p.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?") + '"' for p in parts) + ";\n")
