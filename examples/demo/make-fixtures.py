#!/usr/bin/env python3
"""Writes fixtures.json, the scripted answers that aimock gives in place of a model, turn by turn."""
import json
import pathlib

HERE = pathlib.Path(__file__).parent
ASKED = "Demo: open the shop's order page"

ANALYSE = '''"""Who still owes money: sums the open orders by customer, draws a chart, writes a report."""
import csv
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

home = Path("/home/agent")
out = home / "report"
out.mkdir(exist_ok=True)

with open(home / "data" / "orders.csv", newline="") as f:
    orders = list(csv.DictReader(f))
owed = Counter()
for order in orders:
    if order["state"] == "open":
        owed[order["customer"]] += float(order["total_eur"])

names = [name for name, _ in owed.most_common()]
sums = [owed[name] for name in names]
figure, axes = plt.subplots(figsize=(8, 4.5), dpi=110)
axes.barh(names[::-1], sums[::-1], color="#2f7bb5")
axes.set_title("Open orders by customer, October 2026")
axes.set_xlabel("EUR")
for spine in ("top", "right"):
    axes.spines[spine].set_visible(False)
figure.tight_layout()
figure.savefig(out / "open-orders.png")

lines = ["# Open orders", "", "| Customer | Open (EUR) |", "| --- | ---: |"]
lines += [f"| {name} | {owed[name]:.2f} |" for name in names]
lines += ["", f"Total: {sum(sums):.2f} EUR of {len(orders)} orders."]
(out / "report.md").write_text("\\n".join(lines) + "\\n")
print("\\n".join(lines[4:]))
'''


def tool(name, number, **arguments):
    return {"type": "toolCall", "name": name, "id": f"toolu_demo_{number:02d}", "arguments": arguments}


def computer(number, action, **rest):
    return tool("computer", number, action=action, **rest)


def bash(number, command):
    return tool("bash", number, command=command)


def edit(number, **rest):
    return tool("str_replace_based_edit_tool", number, **rest)


# One entry per model turn: (thinking or None, text or None, tool call or None).
TURNS = [
    ("I should see the desktop before I touch anything.", "I'll look at the desktop first.", lambda n: computer(n, "screenshot")),
    (None, "The desktop is empty. I'll open the order page in the browser.",
     lambda n: bash(n, "(browser /home/agent/shop/orders.html >/dev/null 2>&1 &)\nfor i in $(seq 100); do xwininfo -root -tree 2>/dev/null | grep -q 'Nordlicht Office' && break; sleep 0.1; done\necho 'browser window is open'")),
    (None, None, lambda n: computer(n, "screenshot")),
    ("The table is longer than the screen. Scroll to see the rest.", "The order table is there. I'll scroll through it.",
     lambda n: computer(n, "scroll", coordinate=[640, 420], scroll_direction="down", scroll_amount=10)),
    (None, "Now the largest orders first.", lambda n: computer(n, "left_click", coordinate=[480, 752])),
    (None, "And only those that are still open.", lambda n: computer(n, "left_click", coordinate=[800, 752])),
    (None, "Let me check one customer by name with the filter box.", lambda n: computer(n, "left_click", coordinate=[160, 752])),
    (None, None, lambda n: computer(n, "type", text="Bergmann")),
    (None, "Bergmann GmbH owes the most on the page. I'll clear the filter.", lambda n: computer(n, "key", text="ctrl+a")),
    (None, None, lambda n: computer(n, "key", text="BackSpace")),
    (None, "The page agrees with what I expected. Now the exact sums from the CSV.", lambda n: bash(n, "head -n 4 data/orders.csv; wc -l < data/orders.csv")),
    ("A small script: sum the open orders by customer, draw a bar chart, write the table as Markdown.", "I'll write a script for it.",
     lambda n: edit(n, command="create", path="/home/agent/analyse.py", file_text=ANALYSE)),
    (None, "Running it.", lambda n: bash(n, "python3 analyse.py")),
    (None, "The report needs a first sentence that says what matters.",
     lambda n: edit(n, command="str_replace", path="/home/agent/report/report.md", old_str="# Open orders\n",
                    new_str="# Open orders\n\nBergmann GmbH owes the most: 4753.00 EUR, 42 % of all that is open.\n")),
    (None, "Storing the chart and the report as documents.",
     lambda n: tool("document_put", n, path="/home/agent/report/open-orders.png", filename="open-orders.png", tags=["demo", "chart"],
                    description="Open orders by customer, October 2026")),
    (None, None,
     lambda n: tool("document_put", n, path="/home/agent/report/report.md", filename="report.md", tags=["demo", "report"],
                    description="Who still owes us money, October 2026")),
    (None, "**Bergmann GmbH owes the most: 4753.00 EUR** of 11254.00 EUR that is open in 17 of 64 orders.\n\n"
           "| Customer | Open (EUR) |\n| --- | ---: |\n| Bergmann GmbH | 4753.00 |\n| Dunmore Ltd | 2671.00 |\n| Elvira SL | 1430.00 |\n"
           "| Castell SA | 1379.00 |\n| Fjord AS | 945.00 |\n| Aalto Oy | 76.00 |\n\n"
           "I stored the chart `open-orders.png` and the report `report.md` as documents, tagged `demo`.", None),
]


def main():
    fixtures = []
    for i, (thinking, text, call) in enumerate(TURNS):
        blocks = ([{"type": "text", "text": text}] if text else []) + ([call(i + 1)] if call else [])
        for block in blocks:
            if block["type"] == "toolCall":
                block["arguments"] = json.dumps(block["arguments"])
        response = {"blocks": blocks, "usage": {"input_tokens": 1800 + 650 * i, "output_tokens": 60 + len(json.dumps(blocks)) // 4}}
        if call is None:
            response = {"content": text, "usage": response["usage"]}
        if thinking:
            response["reasoning"] = thinking
            response["reasoningSignature"] = f"demo-signature-{i}"
        fixtures.append({"match": {"userMessage": ASKED, "turnIndex": i}, "response": response})
    fixtures.append({"match": {}, "response": {"content":
        "I am a script, not a model: this Berth runs without a model key, so I can only play the demo. "
        "Start Berth with `ANTHROPIC_API_KEY` set and sessions are answered by a real model."}})
    (HERE / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
