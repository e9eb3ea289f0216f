"""Control groups for workers that no service manager starts: one folder per worker, given to its account.

Version 1: below our own group of each controller. Version 2: below a group of Berth's own at the top, since a
group that holds processes may not hand controllers down. Only root can; otherwise there are none and workers say so."""
import os
import pathlib
import time

CONTROLLERS = ("memory", "pids", "cpu")


def own_folders():
    """The folders below which groups are made: {name of the controller or "": folder}."""
    mine = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            mine[name] = path
    found = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        root, place = left.split()[3:5]
        kind, _, options = right.split()
        if kind == "cgroup2" and (pathlib.Path(place) / "cgroup.controllers").exists():
            have = (pathlib.Path(place) / "cgroup.controllers").read_text().split()
            if "memory" in have:
                return {"": pathlib.Path(place)}
        if kind == "cgroup":
            for name in set(options.split(",")) & set(CONTROLLERS):
                path = mine.get(name, "/")
                if path.startswith(root.rstrip("/")):
                    found[name] = pathlib.Path(place + path[len(root.rstrip("/")):])
    return found


def open_base(tag):
    """Makes the group of one stack in each hierarchy; [] when that is not allowed."""
    made = []
    if os.geteuid() != 0:
        return made
    for controller, folder in own_folders().items():
        base = folder / f"berth-{tag}"
        try:
            base.mkdir(exist_ok=True)
            if not controller:
                for name in CONTROLLERS:
                    (base / "cgroup.subtree_control").write_text(f"+{name}")
            made.append(base)
        except OSError:
            pass
    return made


def give(bases, name, uid, gid):
    """A group for `name` in each base, that belongs to the account; their folders."""
    folders = []
    for base in bases:
        folder = base / name
        try:
            folder.mkdir(exist_ok=True)
            for path in (folder, *(folder / f for f in ("cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control"))):
                if path.exists():
                    os.chown(path, uid, gid)
            folders.append(folder)
        except OSError:
            pass
    return folders


def enter_command(folders, argv):
    """argv, started inside the groups."""
    if not folders:
        return argv
    script = "".join(f"echo 0 > '{f}/cgroup.procs' 2>/dev/null; " for f in folders) + 'exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *argv]


def close_base(bases, seconds=2):
    """Removes the groups of a stack that has ended; what is still dying gets a moment."""
    deadline = time.monotonic() + seconds
    while bases:
        for base in list(bases):
            for folder, _, _ in os.walk(base, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
            if not base.exists():
                bases.remove(base)
        if not bases or time.monotonic() > deadline:
            return not bases
        time.sleep(0.02)
    return True
