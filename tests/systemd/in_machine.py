"""One life of idlegate under a real systemd: installed, reloaded, restarted, killed, hung, upgraded, taken away.

Run by `tests/run systemd`, as `machine python in_machine.py BINARY`: it owns the system it runs on. That system has a network
of its own too, so the two ports that proxy.toml names are free; all others come from the system.
"""
import asyncio
import gzip
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from clients import Users

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SYSTEMD = PROJECT / "deploy/systemd"
BINARY = pathlib.Path(sys.argv[1]).resolve()
CONFIG = pathlib.Path("/etc/idlegate/proxy.toml")
DROP_INS = pathlib.Path("/etc/systemd/system/idlegate.service.d")
# Those of proxy.toml, which the guide tells of.
PORT, APP_PORT = 10086, 10087
PATIENCE = 20
# The records of dpkg, and the index of the man pages, which is made again after each install.
DPKG_WRITES = ("var/lib/dpkg", "var/log/dpkg.log", "var/log/alternatives.log", "var/cache/man", "var/cache/debconf")
# What the machine starts beside idlegate.
ITS_OWN = {"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"}


def run(*command, fails=False, **options):
    """What a command printed. `fails`: it has to."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert (done.returncode != 0) == fails, f"{command}: {done.returncode}\n{done.stdout}\n{journal()}"
    return done.stdout


def journal():
    command = ["journalctl", "--no-pager", "-n", "60", "-o", "short-precise", "-u", "idlegate.*"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def install(*options, **more):
    return run(SYSTEMD / "install", "--binary", BINARY, *options, **more)


def shown(what, unit="idlegate.service"):
    return run("systemctl", "show", "--value", "-p", what, unit).strip()


def eventually(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"never: {what}\n{journal()}"
        time.sleep(0.05)
    return outcome


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


HEALTH_PORT = free_port()


def get(path, port=PORT, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


async def token():
    body = json.dumps({"username": "ada", "password": "lovelace"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/api/login", body, {"Content-Type": "application/json"})
    answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=PATIENCE)
    with answer:
        return json.load(answer)["session_id"]


def is_taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class App:
    """The stand-in for the legacy app, on a port of its own choice."""

    def __init__(self, port):
        command = [sys.executable, PROJECT / "tests/app/app.py", "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().startswith("ready ")

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


def files():
    """All that is other than it was before this machine was booted; but not what the journal and dpkg itself write."""
    changes = pathlib.Path("/run/changes")
    found = {}
    for path in changes.rglob("*"):
        name = path.relative_to(changes)
        # A folder that was there is copied when something in it changes; it is no change itself.
        if str(name).startswith(("var/log/journal", "var/lib/systemd", "work", *DPKG_WRITES)) or "__pycache__" in name.parts:
            continue
        if path.is_dir() and not path.is_symlink():
            if not is_new(name):
                continue
            found[str(name)] = "folder"
        elif path.is_file() and not path.is_symlink():
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(name)] = os.readlink(path) if path.is_symlink() else "gone"
    return found


def same(after, before, but=None):
    differ = {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()}
    differ = {name: values for name, values in differ.items() if values[0] != values[1] and name != but}
    assert not differ, f"was, is: {differ}"


def is_new(folder):
    """The overlay marks a folder that hides or continues one below by where it came from."""
    return "trusted.overlay.origin" not in os.listxattr(pathlib.Path("/run/changes") / folder)


def edit(old, new):
    text = CONFIG.read_text()
    assert old in text, f"{old!r} is not in it:\n{text}"
    CONFIG.write_text(text.replace(old, new))


def guide(name, folder):
    """Does what the guide says under this name, and sees what it says that one sees."""
    text = (PROJECT / "deploy/README.md").read_text()
    marked = f"<!-- guide: {name} -->\n   ```console\n"
    assert text.count(marked) == 1, name
    steps = text.split(marked)[1].split("   ```")[0].split("   $ ")[1:]
    for step in steps:
        command, _, shown_there = step.partition("\n")
        if command.startswith("cargo build "):
            continue
        for written, here in (
            ("sudo ", ""),
            ("target/dist/idlegate", shlex.quote(str(BINARY))),
            ("deploy/systemd/install", shlex.join([f"{SYSTEMD}/install", "--binary", str(BINARY)])),
            ("deploy/systemd/uninstall", shlex.quote(f"{SYSTEMD}/uninstall")),
        ):
            command = command.replace(written, here)
        shown_there = "".join(line.removeprefix("   ") for line in shown_there.splitlines(keepends=True))
        ask = {"args": ["bash", "-c", command], "cwd": folder, "stdout": subprocess.PIPE, "text": True, "check": True}
        told = subprocess.run(**ask).stdout
        if "systemctl show" in command:
            # What it says of itself may be two seconds old.
            eventually(f"{command}: {shown_there}", lambda: subprocess.run(**ask).stdout == shown_there)
        else:
            assert told == shown_there, f"{command}\n{told}\nin the guide:\n{shown_there}"


def units(*options):
    """The names of the units that systemd lists."""
    told = run("systemctl", "list-units", *options, "--no-pager", "--plain", "--no-legend")
    return {line.split()[0] for line in told.splitlines()}


def only_units_that_the_test_names_run():
    """No server that happens to be enabled on the host."""
    assert units("--type=service,socket,timer,path") == ITS_OWN, units("--type=service,socket,timer,path")


def the_guide_is_right():
    before = files()
    folder = pathlib.Path("/run/guide")
    folder.mkdir()
    shipped = (PROJECT / "proxy.toml").read_text()
    assert 'mode = "enforce"' in shipped and f"127.0.0.1:{PORT}" in shipped and f"127.0.0.1:{APP_PORT}" in shipped
    (folder / "my.toml").write_text(shipped.replace('mode = "enforce"', 'mode = "observe"'))
    app = App(PORT)
    guide("prepare", folder)
    assert get("/test/seen") == 200 and shown("ActiveState", "idlegate.socket") == "inactive", "the app is where it was"
    app.stop()
    app = App(APP_PORT)
    for name in ("moved", "start", "enforce", "stop"):
        guide(name, folder)
    app.stop()
    app = App(PORT)
    guide("back", folder)
    guide("uninstall", folder)
    app.stop()
    shutil.rmtree(folder)
    same(files(), before)


def package(version, *options, binary=BINARY):
    """Builds a package of this version."""
    command = (PROJECT / "deploy/debian/build", "--binary", binary, "--version", version, "--output", "/run/packages", *options)
    # Which compresses faster.
    return run(*command, env={**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "gzip"}).strip()


def dpkg(*arguments, **more):
    """Some images of Debian leave out man pages, unless told otherwise."""
    return run("dpkg", "--path-include=/usr/share/*", "--force-confold", *arguments, stdin=subprocess.DEVNULL, **more)


def the_package_is_installed_upgraded_and_purged():
    before = files()
    app, started = App(APP_PORT), "/usr/lib/idlegate/start"
    changed = pathlib.Path("/run/changed.toml")
    changed.write_text((PROJECT / "proxy.toml").read_text() + "# Of the second version.\n")
    newer = newer_binary()
    first, second = package("1.0"), package("1.0+next", "--config", changed, binary=newer)

    # It is put in place, and waits for its configuration.
    assert f"adapt {CONFIG}, then: sudo {started}" in dpkg("--install", first)
    assert [shown("ActiveState", unit) for unit in ("idlegate.socket", "idlegate.service")] == ["inactive"] * 2
    edit('grace_period = "10s"', 'grace_period = "2s"')
    edit('url = "memory"', 'url = "file:/var/lib/idlegate/sessions"')
    edit('# listen = "127.0.0.1:9090"', 'listen = "unix:/run/idlegate/admin.sock"')
    edited = CONFIG.read_text()
    told = run(started)
    assert "started" in told and "enabled" in told, told
    assert (get("/"), shown("Result")) == (200, "success")
    assert os.readlink(f"/proc/{shown('MainPID')}/exe") == "/usr/bin/idlegate"
    assert "nothing    had to be done" in run(started)
    run("systemctl", "is-enabled", "idlegate.socket", "idlegate.service")
    run("systemd-analyze", "verify", "--man=no", "idlegate.service", "idlegate.socket")
    assert "sessions" in gzip.open("/usr/share/man/man1/idlegate.1.gz", "rt").read()
    assert gzip.open("/usr/share/man/man1/idlegate-sessions.1.gz").read()
    completed = run("bash", "-c", ". /usr/share/bash-completion/completions/idlegate && complete -p idlegate")
    assert completed.endswith("idlegate\n"), completed
    for completion in ("zsh/vendor-completions/_idlegate", "fish/vendor_completions.d/idlegate.fish"):
        assert "sessions" in pathlib.Path("/usr/share", completion).read_text()

    # The secrets are handed over as without a package.
    assert (CONFIG.parent / "secrets").stat().st_mode & 0o777 == 0o700
    DROP_INS.mkdir()
    for name in ("admin-token", "redis-password", "store-secret"):
        (CONFIG.parent / "secrets" / name).write_text(f"secret of {name}\n")
        shutil.copy(f"/usr/share/idlegate/secrets/{name}.conf", DROP_INS)
    assert "restarted" in run(started)
    asked = ("idlegate", "mode", "--config", CONFIG)
    run(*asked, fails=True)
    run(*asked, "--token-file", CONFIG.parent / "secrets/admin-token")
    run("systemctl", "reload", "idlegate")
    eventually("it is ready again", lambda: shown("ActiveState") == "active")

    # The other way to install it keeps out of the way.
    assert "as a Debian package" in install(fails=True)
    assert "as a Debian package" in run(SYSTEMD / "uninstall", "--yes", fails=True)

    def upgrade():
        dpkg("--install", second)

    through(upgrade, {1012})
    assert pathlib.Path(f"/proc/{shown('MainPID')}/exe").read_bytes() == newer.read_bytes()
    assert CONFIG.read_text() == edited
    assert pathlib.Path(f"{CONFIG}.dpkg-dist").read_text() == changed.read_text()
    assert shown("NRestarts") == "0"

    # A version that refuses the configuration does not take the place of the one that runs.
    process = shown("MainPID")
    edit('mode = "enforce"', 'mode = "enforced"')
    assert "this version refuses the configuration" in dpkg("--install", first)
    assert (shown("MainPID"), get("/")) == (process, 200)
    edit('mode = "enforced"', 'mode = "enforce"')
    assert "restarted" in run(started) and shown("MainPID") != process

    # The socket follows `listen`.
    other = free_port()
    edit(f'listen = "127.0.0.1:{PORT}"', f'listen = "127.0.0.1:{other}"')
    assert "10-listen.conf" in run(started)
    assert (get("/", other), is_taken(PORT)) == (200, False)

    dpkg("--remove", "idlegate")
    assert not is_taken(other) and not pathlib.Path("/usr/bin/idlegate").exists()
    assert CONFIG.exists() and pathlib.Path("/var/lib/private/idlegate/sessions").exists(), "a later install has them again"
    # It was enabled, and who enabled it wants it so.
    dpkg("--install", first)
    assert shown("UnitFileState") == "enabled" and CONFIG.read_text() != changed.read_text()
    run("systemctl", "start", "idlegate")
    assert get("/", other) == 200
    dpkg("--purge", "idlegate")
    assert not is_taken(other)
    app.stop()
    for made in (changed, newer):
        made.unlink()
    shutil.rmtree("/run/packages")
    left = list(pathlib.Path("/var/lib/dpkg/info").glob("idlegate*"))
    assert not left, left
    same(files(), before)


def a_package_keeps_out_of_the_way_of_what_the_script_has_installed():
    before, process = files(), shown("MainPID")
    assert "deploy/systemd/uninstall --keep" in dpkg("--install", package("1.0"), fails=True)
    shutil.rmtree("/run/packages")
    same(files(), before, but="var/lib/private/idlegate/sessions")
    assert (shown("MainPID"), get("/")) == (process, 200)


def nothing_is_changed_by_an_install_that_cannot_be():
    before = files()
    broken = pathlib.Path("/run/broken.toml")
    broken.write_text("upstream = 7\n")
    told = install("--config", broken, fails=True)
    assert "nothing was changed" in told and "upstream" in told, told
    shipped = (PROJECT / "proxy.toml").read_text()
    broken.write_text(shipped.replace(f"127.0.0.1:{PORT}", "127.0.0.1:0"))
    told = install("--config", broken, fails=True)
    assert "listen has port 0" in told and "nothing was changed" in told, told
    assert "there is no binary" in run(SYSTEMD / "install", "--binary", "/nowhere", fails=True)
    same(files(), before)


def it_takes_over_the_port_of_the_app():
    config = pathlib.Path("/run/proxy.toml")
    shipped = (PROJECT / "proxy.toml").read_text()
    changes = {
        'grace_period = "10s"': 'grace_period = "3s"',
        'url = "memory"': 'url = "file:/var/lib/idlegate/sessions"',
        '# listen = "127.0.0.1:9090"': 'listen = "unix:/run/idlegate/admin.sock"',
        '# listen = "127.0.0.1:9091"': f'listen = "127.0.0.1:{HEALTH_PORT}"',
    }
    for old, new in changes.items():
        assert old in shipped, old
        shipped = shipped.replace(old, new)
    config.write_text(shipped)
    app = App(PORT)
    before = files()
    told = install("--config", config, fails=True)
    assert f"another process listens on 127.0.0.1:{PORT} already; nothing was changed" in told, told
    same(files(), before)
    told = install("--config", config, "--no-start")
    assert "installed  /usr/local/bin/idlegate" in told and "again without --no-start" in told, told
    assert (get("/test/seen"), shown("ActiveState", "idlegate.socket")) == (200, "inactive"), "the app is where it was"
    app.stop()
    App(APP_PORT)
    told = install("--config", config)
    assert "started" in told and f"curl -si http://127.0.0.1:{PORT}/" in told, told
    assert [get("/"), get("/test/seen"), get("/readyz", HEALTH_PORT)] == [200, 200, 200]
    assert (shown("ActiveState"), shown("Type"), shown("NRestarts")) == ("active", "notify", "0")
    assert shown("StatusText"), "says what it does"
    run("systemctl", "is-enabled", "idlegate.socket", "idlegate.service")
    # It is nobody, and its folders are its own.
    status = pathlib.Path(f"/proc/{shown('MainPID')}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "Uid:\t0" not in status, status
    assert pathlib.Path("/var/lib/idlegate/sessions").exists()
    assert "enforce" in run(BINARY, "mode", "--config", CONFIG)


def a_second_install_changes_nothing():
    before, process = files(), shown("MainPID")
    told = install()
    assert "nothing    had to be done" in told and told.count("unchanged ") == 5, told
    same(files(), before, but="var/lib/private/idlegate/sessions")
    assert shown("MainPID") == process


def a_reload_is_in_force_or_fails():
    process = shown("MainPID")
    assert get("/test/seen") == 200
    edit('grace_period = "3s"', 'grace_period = "5s"')
    edit("deny = [", 'deny = ["/test/seen", ')
    run("systemctl", "reload", "idlegate")
    eventually("the edit is in force", lambda: get("/test/seen") == 404)
    eventually("it is ready again", lambda: shown("ActiveState") == "active")
    edit('mode = "enforce"', 'mode = "enforced"')
    told = run("systemctl", "reload", "idlegate", fails=True)
    assert "failed" in told, told
    assert "idle.mode" in journal(), journal()
    assert (get("/"), get("/test/seen")) == (200, 404), "the last good one holds"
    edit('mode = "enforced"', 'mode = "enforce"')
    run("systemctl", "reload", "idlegate")
    assert (shown("MainPID"), shown("NRestarts")) == (process, "0")
    eventually("it is ready again", lambda: shown("ActiveState") == "active")


def secrets_are_handed_over():
    secrets = CONFIG.parent / "secrets"
    secrets.mkdir(mode=0o700)
    for name in ("admin-token", "redis-password", "store-secret"):
        (secrets / name).write_text(f"secret of {name}\n")
        (secrets / name).chmod(0o600)
    DROP_INS.mkdir()
    for drop_in in (SYSTEMD / "secrets").iterdir():
        shutil.copy(drop_in, DROP_INS)
    admin = free_port()
    edit('listen = "unix:/run/idlegate/admin.sock"', f'listen = "127.0.0.1:{admin}"')
    # The check of install reads them where they come from, and what was started before them is started anew.
    assert "restarted" in install()
    assert get("/mode", admin) == 401
    assert get("/mode", admin, Authorization="Bearer secret of admin-token") == 200
    run("systemctl", "reload", "idlegate")
    told = run(BINARY, "mode", "--config", CONFIG, "--token-file", secrets / "admin-token")
    assert "enforce" in told, told
    # A session is known by an id that this secret makes.
    asked = [BINARY, "explain", "--token-stdin", "--config", CONFIG, "--token-file", secrets / "admin-token"]
    mine = asyncio.run(token())
    with_secret = {**os.environ, "IDLEGATE_STORE_SECRET_FILE": str(secrets / "store-secret")}
    assert "alive" in run(*asked, input=mine, env=with_secret)
    run(*asked, input=mine, fails=True)


def through(what, codes=None):
    """Does `what` while people use the app. None of them may lose a request or be refused."""

    async def used():
        async with Users(PORT, token) as users:
            await asyncio.to_thread(what)
            await users.go_on()
        return users

    users = asyncio.run(used())
    assert users.lost == [], (what.__name__, users.lost[:5], len(users.lost))
    if codes is not None:
        assert users.reopened >= users.sockets and set(users.codes) == codes, users.codes
    print(
        f"     {what.__name__}: {users.answered} requests answered, {users.retried} of them at the second attempt, "
        f"{users.reopened} WebSockets came back, none lost; the longest wait was {users.longest:.1f} s",
        flush=True,
    )
    return users


def a_restart_loses_nothing():
    # Less than the drain takes: idlegate itself says that it needs longer.
    (DROP_INS / "hurry.conf").write_text("[Service]\nTimeoutStopSec=1s\n")
    run("systemctl", "daemon-reload")

    def restart():
        process, begun = shown("MainPID"), time.monotonic()
        run("systemctl", "restart", "idlegate")
        assert shown("MainPID") != process
        assert time.monotonic() - begun > 1.5, "the time that was too short did not run out"

    through(restart, {1012})
    (DROP_INS / "hurry.conf").unlink()
    run("systemctl", "daemon-reload")
    edit('grace_period = "5s"', 'grace_period = "2s"')
    run("systemctl", "reload", "idlegate")
    assert (shown("ActiveState"), shown("Result"), shown("NRestarts")) == ("active", "success", "0")


def newer_binary():
    newer = pathlib.Path("/run/idlegate-newer")
    shutil.copy(BINARY, newer)
    with newer.open("ab") as file:
        file.write(b"\0")
    return newer


def an_upgrade_loses_nothing():
    newer = newer_binary()

    def upgrade():
        told = run(SYSTEMD / "install", "--binary", newer)
        assert "replaced   /usr/local/bin/idlegate" in told and "restarted" in told, told

    through(upgrade, {1012})
    assert pathlib.Path("/usr/local/bin/idlegate").read_bytes() == newer.read_bytes()
    install()


def an_install_that_was_broken_off_is_finished_by_the_next():
    newer, process = newer_binary(), shown("MainPID")
    run(SYSTEMD / "install", "--binary", newer, "--no-start")
    assert shown("MainPID") == process, "it was to start nothing"
    assert "restarted" in run(SYSTEMD / "install", "--binary", newer)
    running = pathlib.Path(f"/proc/{shown('MainPID')}/exe")
    assert shown("MainPID") != process and running.read_bytes() == newer.read_bytes()
    assert "restarted" in install()


def an_install_notices_every_drop_in():
    """Also one that was written in the second of the start, that has an old modification time, or that was removed."""
    drop_in = DROP_INS / "noticed.conf"

    def written():
        drop_in.write_text("[Service]\nEnvironment=NOTICED=1\n")

    def copied_with_its_old_time():
        written()
        os.utime(drop_in, (1, 1))

    for change in (written, copied_with_its_old_time, drop_in.unlink):
        run("systemctl", "restart", "idlegate")
        change()
        run("systemctl", "daemon-reload")
        assert "restarted" in install(), change
        assert "nothing    had to be done" in install(), change
    # Written before the start, and not read by systemd until install asks it to.
    written()
    run("systemctl", "restart", "idlegate")
    assert "restarted" in install()
    assert "NOTICED=1" in pathlib.Path(f"/proc/{shown('MainPID')}/environ").read_text()
    drop_in.unlink()
    assert "restarted" in install()


def it_comes_back_when_it_is_killed():
    process = shown("MainPID")
    os.kill(int(process), 9)
    # Nobody is refused: who comes now waits.
    assert get("/") == 200
    eventually("it is another process", lambda: shown("MainPID") not in (process, "0"))
    assert (shown("NRestarts"), shown("Result")) == ("1", "success")


def it_comes_back_when_it_hangs():
    (DROP_INS / "watchdog.conf").write_text("[Service]\nWatchdogSec=4s\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "idlegate")
    process = shown("MainPID")
    # It lives on while it is well, for longer than the watchdog waits.
    since = shown("WatchdogTimestampMonotonic")
    eventually("it tells the watchdog", lambda: int(shown("WatchdogTimestampMonotonic")) > int(since) + 4_500_000)
    assert shown("MainPID") == process
    os.kill(int(process), 19)
    assert get("/") == 200, "who comes now waits"
    assert shown("MainPID") != process
    assert "Watchdog timeout" in journal(), journal()
    (DROP_INS / "watchdog.conf").unlink()
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "idlegate")


def a_broken_configuration_is_waited_out():
    edit('mode = "enforce"', 'mode = "enforced"')
    run("systemctl", "restart", "idlegate", fails=True)
    assert shown("ActiveState", "idlegate.socket") == "active"
    waiting = subprocess.Popen(["curl", "-fsS", "-o", "/dev/null", "-m", str(PATIENCE), f"http://127.0.0.1:{PORT}/"])
    attempts = int(shown("NRestarts"))
    # More often than systemd would try, unless told otherwise.
    eventually("it is tried again and again", lambda: int(shown("NRestarts")) > attempts + 5)
    edit('mode = "enforced"', 'mode = "enforce"')
    assert waiting.wait(PATIENCE) == 0, "who came meanwhile is served"
    eventually("it is up", lambda: shown("ActiveState") == "active")


def the_socket_follows_listen():
    other = free_port()
    edit(f'listen = "127.0.0.1:{PORT}"', f'listen = "127.0.0.1:{other}"')
    told = install()
    assert "10-listen.conf" in told and "for a moment connections are refused" in told, told
    assert (get("/", other), is_taken(PORT)) == (200, False)
    # Put in place by one run, and in force by the next.
    edit(f'listen = "127.0.0.1:{other}"', f'listen = "127.0.0.1:{PORT}"')
    assert "removed" in install("--no-start")
    assert (get("/", other), is_taken(PORT)) == (200, False)
    assert "for a moment connections are refused" in install()
    assert (get("/"), is_taken(other)) == (200, False)


def what_is_installed_is_clean():
    run("systemd-analyze", "verify", "--man=no", "idlegate.service", "idlegate.socket")
    run("systemd-analyze", "security", "--threshold=12", "idlegate.service")
    assert (shown("WatchdogUSec"), shown("LimitCORE")) == ("30s", "0")
    assert shown("Backlog", "idlegate.socket") == "4096"


def nothing_is_left(before):
    assert "--yes" in run(SYSTEMD / "uninstall", fails=True, stdin=subprocess.DEVNULL)
    assert get("/") == 200, "it still runs"
    run(SYSTEMD / "uninstall", "--yes")
    same(files(), before)
    # Not the mount of the checkout, whose folder may be called so.
    left = [str(path) for path in pathlib.Path("/run").rglob("idlegate*") if path.parts[2] not in ("changes", "log")]
    assert left == ["/run/idlegate-newer"], left
    assert not is_taken(PORT)
    assert shown("LoadState") == "not-found" == shown("LoadState", "idlegate.socket")
    # The mount of the checkout, whose folder may have that name, is no unit of idlegate's.
    left = {unit for unit in units("--all") if "idlegate" in unit and not unit.endswith(".mount")}
    assert not left, left
    assert "nothing    of idlegate is here" in run(SYSTEMD / "uninstall", "--yes")
    # Somebody has removed the files by hand, and it runs on; or an install was killed.
    install()
    assert is_taken(PORT)
    for unit in ("idlegate.service", "idlegate.socket"):
        pathlib.Path("/etc/systemd/system", unit).unlink()
    pathlib.Path("/usr/local/bin/idlegate.new").write_text("half a binary")
    assert "stopped" in run(SYSTEMD / "uninstall", "--yes")
    assert not is_taken(PORT)
    same(files(), before)


def main():
    before = files()
    for step in (
        only_units_that_the_test_names_run,
        the_guide_is_right,
        the_package_is_installed_upgraded_and_purged,
        nothing_is_changed_by_an_install_that_cannot_be,
        it_takes_over_the_port_of_the_app,
        what_is_installed_is_clean,
        a_second_install_changes_nothing,
        a_package_keeps_out_of_the_way_of_what_the_script_has_installed,
        a_reload_is_in_force_or_fails,
        secrets_are_handed_over,
        a_restart_loses_nothing,
        an_upgrade_loses_nothing,
        an_install_that_was_broken_off_is_finished_by_the_next,
        an_install_notices_every_drop_in,
        it_comes_back_when_it_is_killed,
        it_comes_back_when_it_hangs,
        a_broken_configuration_is_waited_out,
        the_socket_follows_listen,
    ):
        begun = time.monotonic()
        step()
        print(f"ok   {step.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
    nothing_is_left(before)
    print("ok   nothing_is_left", flush=True)


if __name__ == "__main__":
    main()
