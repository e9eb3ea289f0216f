#!/usr/bin/env python3
"""Makes the demo's data: files/orders.csv and the shop page files/orders.html, from one seed."""
import csv
import html
import pathlib
import random

HERE = pathlib.Path(__file__).parent / "files"
CUSTOMERS = ["Aalto Oy", "Bergmann GmbH", "Castell SA", "Dunmore Ltd", "Elvira SL", "Fjord AS"]
GOODS = [("Desk lamp", 3900), ("Office chair", 18900), ("Standing desk", 42900), ("Monitor arm", 8900),
         ("Cable tray", 1900), ("Foot rest", 3400), ("Whiteboard", 12900), ("Filing box", 900)]

# The page has no network: everything is inline. The bar at the bottom is large on purpose, so that a
# click does not depend on a browser's exact toolbar height.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Opening</title>
<style>
 :root { font: 15px/1.4 "Liberation Sans", "DejaVu Sans", sans-serif; color: #1d2733; background: #f4f6f8 }
 body { margin: 0 0 120px } header { background: #14324a; color: #fff; padding: 18px 28px; display: flex; gap: 18px; align-items: baseline }
 header b { font-size: 20px } header span { opacity: .75 }
 table { border-collapse: collapse; width: calc(100% - 56px); margin: 20px 28px; background: #fff; border: 1px solid #d9e0e6 }
 th, td { padding: 8px 12px; text-align: left; border-bottom: 1px solid #e8edf1 } th { background: #eef2f5; position: sticky; top: 0 }
 td.n { text-align: right; font-variant-numeric: tabular-nums } .open { color: #b3261e; font-weight: bold } .paid { color: #1a7f45 }
 footer { position: fixed; inset: auto 0 0 0; height: 96px; display: flex; background: #14324a; padding: 10px; gap: 10px; box-sizing: border-box }
 footer button, footer input { flex: 1; font: inherit; font-size: 18px; border: 0; border-radius: 8px; padding: 0 18px }
 footer button { background: #2f7bb5; color: #fff } footer button.on { background: #e0a526; color: #1d2733 } #sum { color: #fff; align-self: center; flex: 1; font-size: 18px; text-align: center }
</style></head><body>
<header><b>Nordlicht Office</b><span>Orders, October 2026</span></header>
<table><thead><tr><th>Order</th><th>Date</th><th>Customer</th><th>Article</th><th>Quantity</th><th>Total</th><th>State</th></tr></thead><tbody>
ROWS
</tbody></table>
<footer><input id="q" placeholder="Filter orders" autocomplete="off"><button id="sort">Largest first</button><button id="open">Only open</button><span id="sum"></span></footer>
<script>
 const body = document.querySelector('tbody'), rows = [...body.rows], q = document.getElementById('q'), sort = document.getElementById('sort'), open = document.getElementById('open');
 const cents = r => Number(r.cells[5].dataset.cents);
 function show() {
  const text = q.value.toLowerCase(), only = open.classList.contains('on'), list = rows.filter(r => r.textContent.toLowerCase().includes(text) && (!only || r.dataset.state === 'open'));
  if (sort.classList.contains('on')) list.sort((a, b) => cents(b) - cents(a));
  body.replaceChildren(...list);
  document.getElementById('sum').textContent = list.length + ' orders, ' + (list.reduce((s, r) => s + cents(r), 0) / 100).toFixed(2) + ' EUR';
 }
 for (const b of [sort, open]) b.onclick = () => { b.classList.toggle('on'); show(); scrollTo(0, 0); };
 q.oninput = show; show();
 // Who waits for this title finds a page that reacts to clicks.
 document.title = 'Nordlicht Office - Orders';
</script></body></html>
"""


def main():
    rng = random.Random(20261001)
    orders = []
    for i in range(64):
        article, price = rng.choice(GOODS)
        quantity = rng.choice([1, 1, 2, 2, 3, 4, 6, 10])
        orders.append({"order": f"N-{10412 + i}", "date": f"2026-10-{1 + i * 31 // 64:02d}",
                       "customer": rng.choice(CUSTOMERS), "article": article, "quantity": quantity,
                       "total_eur": f"{price * quantity / 100:.2f}", "state": rng.choice(["paid", "paid", "paid", "open"])})
    HERE.mkdir(exist_ok=True)
    with open(HERE / "orders.csv", "w", newline="") as f:
        out = csv.DictWriter(f, orders[0].keys(), lineterminator="\n")
        out.writeheader()
        out.writerows(orders)
    rows = "\n".join(
        '<tr data-state="{state}"><td>{order}</td><td>{date}</td><td>{customer}</td><td>{article}</td><td class="n">{quantity}</td>'
        '<td class="n" data-cents="{cents}">{total_eur}</td><td class="{state}">{state}</td></tr>'.format(
            cents=round(float(o["total_eur"]) * 100), **{k: html.escape(str(v)) for k, v in o.items()}) for o in orders)
    (HERE / "orders.html").write_text(PAGE.replace("ROWS", rows))


if __name__ == "__main__":
    main()
