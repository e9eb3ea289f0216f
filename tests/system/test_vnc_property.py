"""Property 6: however viewers come, go, take over and type, only the holder's input arrives, whole and in order, and all
see the same; nothing is left of those that went. Real Xvnc, 100 generated cases (--nightly style runs: VNC_CASES)."""
import os
import pathlib
import random

from conftest import wait_until
from test_takeover import XTERM, control, typed
from viewer import Viewer

CASES = int(os.environ.get("VNC_CASES", "100"))


def same_picture(viewers):
    """All viewers show the same; reads what is still on its way."""
    def check():
        for v in viewers:
            v.settle(0.02, 2)
        return len({v.picture() for v in viewers}) == 1
    wait_until(check, 20, "all viewers to show the same")


def descriptors(berth, name):
    return len(list(pathlib.Path(f"/proc/{berth.pid(name)}/fd").iterdir()))


def test_property_6_vnc(own_berth):
    seed = int(os.environ.get("VNC_SEED", "6"))
    rng = random.Random(seed)
    berth = own_berth(workers=1, kind="desktop")
    s = berth.create([{"tools": [["bash", {"command": XTERM}]]}, {"text": "ready"}], kind="desktop")["session_id"]
    berth.wait_status(s, "idle", seconds=60)
    names = iter(range(10 ** 6))
    first = Viewer(berth, s, "v-first")
    first.settle(0.3)
    before = descriptors(berth, "gatewayd")
    viewers = {f"v{next(names)}": None for _ in range(2)}
    for name in viewers:
        viewers[name] = Viewer(berth, s, name)
    holder, expected, line = None, "", 0
    for case in range(CASES):
        if rng.random() < 0.2:  # one goes, another comes
            gone = rng.choice(list(viewers))
            viewers.pop(gone).close()
            if gone == holder:
                holder = None
            name = f"v{next(names)}"
            viewers[name] = Viewer(berth, s, name)
        if holder is None or rng.random() < 0.3:
            holder = rng.choice(list(viewers))
            control(berth, s, take=True, viewer=holder, force=True)
            v = viewers[holder]
            # The gateway reads who drives from the database: keys count from when the pointer's do.
            probe = rng.randrange(100, 700)

            def follows():
                nonlocal probe
                probe = probe + 1 if probe < 700 else 100
                was = v.picture()
                v.move(probe, probe // 2)
                try:
                    v.follow(lambda: v.picture() != was, 0.3)
                except AssertionError:
                    return False
                return True
            wait_until(follows, 10, f"seed {seed} case {case}: the holder to drive")
        elif rng.random() < 0.2:
            control(berth, s, take=True, viewer=holder)  # renewed in the middle of it
        v = viewers[holder]
        for name, other in viewers.items():
            if name != holder and rng.random() < 0.5:
                other.type("Z")
                other.click(rng.randrange(700), rng.randrange(400))
        text = "".join(rng.choice("abcdefghij KLMNOP0123456789") for _ in range(rng.randrange(1, 6)))
        line += len(text)
        if line > 60:
            text, line = text + "\n", 0
        if rng.random() < 0.3:
            v.move(rng.randrange(1280), rng.randrange(800))
        was = v.picture()
        v.type(text)
        expected += text
        v.follow(lambda: v.picture() != was, 10, f"seed {seed} case {case}: what was typed to show")
        if case % 10 == 9:
            same_picture([first, *viewers.values()])
    v.type("\n")
    expected += "\n"
    same_picture([first, *viewers.values()])
    control(berth, s, release=True)
    for old in viewers.values():
        old.close()
    wait_until(lambda: descriptors(berth, "gatewayd") <= before, 10, lambda: f"descriptors {descriptors(berth, 'gatewayd')}, were {before}")
    assert typed(berth, s).replace("\n", "").strip() == expected.replace("\n", "").strip()
    first.close()
    berth.call("DELETE", f"/sessions/{s}", 204)
