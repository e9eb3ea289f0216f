#!/usr/bin/env python3
"""Makes the manual page of a daemon from its --print-config: man-page.py NAME PROGRAM OUTPUT."""
import re
import subprocess
import sys

WHAT = {
    "coordinatord": "sessions, slots and events of Berth",
    "docserverd": "documents of Berth",
    "gatewayd": "network edge of Berth: HTTP, WebSocket, the page",
    "workerd": "one slot of Berth and the agent session in it",
}
name, program, output = sys.argv[1:]
text = subprocess.run([program, "--print-config"], check=True, capture_output=True, text=True).stdout
escape = lambda s: re.sub(r"^([.'])", r"\\&\1", s.replace("\\", "\\e").replace("-", "\\-"))
instance = "@N" if name == "workerd" else ""
page = [f'.TH BERTH\\-{name.upper()} 8 "" "Berth" "Berth"', ".SH NAME", f"berth\\-{name} \\- {WHAT[name]}", ".SH SYNOPSIS",
        f".B systemctl start berth\\-{name}{instance}.service", ".PP",
        f".B {name} \\-\\-config FILE [\\-\\-set NAME=VALUE]... [\\-\\-check\\-config | \\-\\-print\\-config | \\-\\-version]",
        ".SH DESCRIPTION", f"Runs as a service of berth.target; systemctl status says in one line what it does. "
        f"Settings are lines \\(oqname = value\\(cq in /etc/berth/{name}.conf; "
        "a \\(oq#\\(cq starts a comment. Settings that say so are read again on systemctl reload.", ".SH SETTINGS"]
for block in text.split("\n\n")[1:]:
    lines = block.strip().splitlines()
    if len(lines) < 2:
        continue
    *notes, last = lines
    page += [".TP", f".B {escape(last.lstrip('#').strip())}"] + [escape(n.lstrip("# ").strip()) for n in notes[:1]]
    page += [f"({escape(n.lstrip('# ').strip())})" for n in notes[1:]]
page += [".SH SEE ALSO", ".BR berthctl (1), ", "/usr/share/doc/berth/operator.md"]
open(output, "w").write("\n".join(page) + "\n")
