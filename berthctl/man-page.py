#!/usr/bin/env python3
"""Makes the manual pages of a daemon and of its configuration file from its --print-config: man-page.py NAME PROGRAM PAGE8 PAGE5."""
import re
import subprocess
import sys

WHAT = {
    "coordinatord": "sessions, slots and events of Berth",
    "docserverd": "documents of Berth",
    "gatewayd": "network edge of Berth: HTTP, WebSocket, the page",
    "workerd": "one slot of Berth and the agent session in it",
}


def escape(text):
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e").replace("-", "\\-"))


def settings(text):
    """One paragraph per setting: its line as it stands in a file, what it is, default and range."""
    page = []
    for block in text.split("\n\n")[1:]:
        lines = block.strip().splitlines()
        if len(lines) < 2:
            continue
        *notes, last = lines
        page += [".TP", f".B {escape(last.lstrip('#').strip())}"] + [escape(n.lstrip("# ").strip()) for n in notes[:1]]
        page += [f"({escape(n.lstrip('# ').strip())})" for n in notes[1:]]
    return page


def main():
    name, program, page8, page5 = sys.argv[1:]
    text = subprocess.run([program, "--print-config"], check=True, capture_output=True, text=True).stdout
    instance = "@N" if name == "workerd" else ""
    title = f'.TH BERTH\\-{name.upper()}'
    others = [n for n in WHAT if n != name]
    with open(page8, "w") as f:
        f.write("\n".join([f'{title} 8 "" "Berth" "Berth"', ".SH NAME", f"berth\\-{name} \\- {WHAT[name]}", ".SH SYNOPSIS",
                           f".B systemctl start berth\\-{name}{instance}.service", ".PP",
                           f".B {name} \\-\\-config FILE [\\-\\-set NAME=VALUE]... [\\-\\-check\\-config | \\-\\-print\\-config | \\-\\-version]",
                           ".SH DESCRIPTION", "Runs as a service of berth.target; systemctl status says in one line what it does.", ".SH OPTIONS",
                           ".TP", ".B \\-\\-check\\-config", "Says whether the configuration is valid, and exits: 0, or 78 with a sentence on what is wrong and where.",
                           ".TP", ".B \\-\\-print\\-config", "Prints a commented configuration file with every setting, its default and range.",
                           ".TP", ".B \\-\\-set NAME=VALUE", "Overrides the file; may be repeated.", ".SH SIGNALS",
                           ".TP", ".B SIGHUP", "Reads the configuration again (systemctl reload).", ".TP", ".B SIGTERM", "Ends in order; a second one at once.",
                           ".SH EXIT STATUS", "0, 1 after a failure, 78 when the configuration is wrong: systemd does not restart it then.",
                           ".SH FILES", f"/etc/berth/{name}.conf", ".SH SEE ALSO", f".BR berth\\-{name}.conf (5),", ".BR berthctl (1),",
                           *[f".BR berth\\-{n} (8)," for n in others], "/usr/share/doc/berth/operator.md"]) + "\n")
    with open(page5, "w") as f:
        f.write("\n".join([f'{title}.CONF 5 "" "Berth" "Berth"', ".SH NAME", f"berth\\-{name}.conf \\- settings of berth\\-{name}", ".SH SYNOPSIS",
                           f".B /etc/berth/{name}.conf", ".SH DESCRIPTION",
                           "Lines \\(oqname = value\\(cq. A \\(oq#\\(cq at the front of a line or after white space starts a comment; double quotes around a value protect "
                           "\\(oq#\\(cq and outer spaces. A name may appear once. Settings that say so are read again on systemctl reload; berthctl config check "
                           "says whether all files are valid.", ".SH SETTINGS", *settings(text), ".SH SEE ALSO", f".BR berth\\-{name} (8),",
                           ".BR berthctl (1)"]) + "\n")


main()
