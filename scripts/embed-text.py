#!/usr/bin/env python3
"""Turns a text file into a C header: embed-text.py OUTPUT NAME FILE"""
import sys

output, name, source = sys.argv[1:]
with open(source, encoding="utf-8") as f:
    lines = f.read().splitlines()
with open(output, "w", encoding="utf-8") as f:
    f.write(f"/* Made by scripts/embed-text.py. */\n#pragma once\n\nstatic const char {name}[] =\n")
    for line in lines:
        text = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
        f.write(f'\t"{text}\\n"\n')
    f.write(";\n")
