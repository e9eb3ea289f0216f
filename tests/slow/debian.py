"""What the slow tests share: a Debian made from packages, and Berth's own package built for it."""
import os
import pathlib
import re
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ["ca-certificates", "systemd", "systemd-sysv", "dbus", "procps", "iproute2", "curl"]
began = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - began:5.0f} s] {text}", flush=True)


def run(*argv, **kwargs):
    return subprocess.run([str(a) for a in argv], check=True, **kwargs)


def wait_until(check, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def fields(package):
    text = (ROOT / "debian" / "control").read_text()
    found = re.search(rf"^{package}:(.*?)^\S", text, re.M | re.S).group(1)
    return [re.sub(r"\(.*?\)", "", one).strip() for one in found.replace("\n", " ").split(",")]


def make_root(folder, suite, include, log):
    """A Debian with the host's certificates, apt proxy and names, as scripts/fresh-machine makes it."""
    mirror = "http://deb.debian.org"
    hooks = ["--customize-hook=cp -a /usr/local/share/ca-certificates/. \"$1/usr/local/share/ca-certificates/\" || true",
             "--customize-hook=chroot \"$1\" update-ca-certificates"]
    with open(log, "w") as out:
        run("mmdebstrap", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\"", f"--include={','.join(include)}", *hooks, suite, folder,
            f"deb {mirror}/debian {suite} main", f"deb {mirror}/debian {suite}-updates main",
            f"deb {mirror}/debian-security {suite}-security main", stdout=out, stderr=out)


def copy_tree(to, source):
    """What git would have, and the page as it was built; or a folder as it is."""
    if source:
        shutil.copytree(source, to, dirs_exist_ok=True)
        return
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "-c", "-o", "--exclude-standard"], check=True, capture_output=True).stdout
    for name in names.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    if (ROOT / "web" / "dist").is_dir():
        shutil.copytree(ROOT / "web" / "dist", to / "web" / "dist", dirs_exist_ok=True)


def build(work, version, suite, tree):
    """The package of this version: on the host when it is of the suite, else in a root of the suite."""
    for made in work.glob(f"build-{version}/berth_{version}_*.deb"):
        return made
    source = work / f"build-{version}" / "berth"
    source.mkdir(parents=True)
    copy_tree(source, tree)
    log = source.parent / "build.log"
    changelog = source / "debian" / "changelog"
    changelog.write_text(re.sub(r"\(.*?\)", f"({version})", changelog.read_text(), count=1))
    command = f"dpkg-buildpackage -us -uc -b -j{os.cpu_count()}"
    with open(log, "w") as out:
        if suite == subprocess.run(". /etc/os-release; echo -n $VERSION_CODENAME", shell=True, capture_output=True, text=True).stdout:
            run("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEB_BUILD_OPTIONS=nocheck", *command.split(), cwd=source, stdout=out, stderr=out)
        else:
            root = work / "buildroot"
            if not root.exists():
                needs = [n.split("|")[0].strip() for n in fields("Build-Depends") if n and "debhelper-compat" not in n]
                make_root(root, suite, ["build-essential", "debhelper", "ca-certificates", *needs], work / "buildroot.log")
            run("systemd-nspawn", "-q", "-D", root, "--register=no", "--keep-unit", "--as-pid2", f"--bind={source.parent}:/b", "--chdir=/b/berth",
                "--setenv=DEB_BUILD_OPTIONS=nocheck", *command.split(), stdout=out, stderr=out)
    return next(source.parent.glob(f"berth_{version}_*.deb"))


def needs_of(package):
    """The packages a built one depends on."""
    depends = subprocess.run(["dpkg-deb", "-f", str(package), "Depends"], check=True, capture_output=True, text=True).stdout
    return [re.sub(r"\(.*?\)", "", n).split("|")[0].strip() for n in depends.split(",")]
