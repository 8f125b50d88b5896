"""The units and scripts of deploy/systemd, as far as that needs no system of its own. Run by `tests/run systemd`:
`python test_units.py BINARY`. The rest is in in_machine.py."""
import gzip
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SYSTEMD = PROJECT / "deploy/systemd"
BINARY = pathlib.Path(sys.argv.pop(1)).resolve()
PATIENCE = 20


def run(*command, fails=False, **options):
    """What a command printed. `fails`: it has to."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert (done.returncode != 0) == fails, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


class Units(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_systemd_has_nothing_to_say_of_them(self):
        """But that the program is not where it will be."""
        # A unit would take a path with a space for two words.
        program = self.folder / "idlegate"
        program.symlink_to(BINARY)
        for unit in SYSTEMD.glob("idlegate.*"):
            text = unit.read_text().replace("/usr/local/bin/idlegate", str(program))
            (self.folder / unit.name).write_text(text)
        # With the secrets, of which %d is one of systemd's own names.
        shutil.copytree(SYSTEMD / "secrets", self.folder / "idlegate.service.d")
        units = [self.folder / "idlegate.service", self.folder / "idlegate.socket"]
        self.assertEqual(run("systemd-analyze", "verify", "--man=no", *units), "")
        # It would have.
        with units[0].open("a") as unit:
            unit.write("[Service]\nPrivateTmpp=yes\n")
        self.assertIn("PrivateTmpp", run("systemd-analyze", "verify", "--man=no", *units))

    def test_the_service_is_exposed_as_little_as_can_be(self):
        ask = ("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=12")
        told = run(*ask, SYSTEMD / "idlegate.service")
        print(told.splitlines()[-1].strip())
        self.assertIn("Overall exposure level", told)

    def test_scripts_are_clean(self):
        scripts = [SYSTEMD / "install", SYSTEMD / "uninstall", PROJECT / "tests/systemd/machine"]
        scripts += [PROJECT / "tests/run", PROJECT / ".ci/run", PROJECT / "deploy/rootfs", *(PROJECT / "deploy/debian").iterdir()]
        scripts += [PROJECT / "deploy/kubernetes/monitoring/generate"]
        self.assertEqual(run("shellcheck", *scripts), "")

    def installed(self):
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    def test_files_are_put_below_another_root_and_taken_away(self):
        command = (SYSTEMD / "install", "--binary", BINARY, "--root", self.folder)
        self.assertEqual(run(*command).count("installed"), 5)
        units = "etc/systemd/system/idlegate.service", "etc/systemd/system/idlegate.socket"
        pages = {name for name in self.installed() if name.startswith("usr/local/share/")}
        for page in (
            "man/man1/idlegate.1",
            "man/man1/idlegate-sessions.1",
            "bash-completion/completions/idlegate",
            "zsh/site-functions/_idlegate",
            "fish/vendor_completions.d/idlegate.fish",
        ):
            self.assertIn("sessions", (self.folder / "usr/local/share" / page).read_text())
            self.assertIn("usr/local/share/" + page, pages)
        self.assertEqual(set(self.installed()), {"usr/local/bin/idlegate", "etc/idlegate/proxy.toml", *units, *pages})
        self.assertEqual((self.folder / "usr/local/bin/idlegate").read_bytes(), BINARY.read_bytes())
        edited = self.folder / "etc/idlegate/proxy.toml"
        edited.write_text("# Edited.\n")
        (self.folder / units[0]).write_text("# Of another version.\n")
        told = run(*command, "--config", PROJECT / "proxy.toml")
        counts = [told.count(word) for word in ("installed ", "replaced ", "unchanged ", "kept ")]
        self.assertEqual(counts, [0, 1, 3, 1])
        before = self.installed()
        self.assertEqual(before["etc/idlegate/proxy.toml"], b"# Edited.\n")
        self.assertEqual(run(*command).count("unchanged "), 5)
        self.assertEqual(self.installed(), before)

        remove = (SYSTEMD / "uninstall", "--root", self.folder)
        self.assertIn("--yes", run(*remove, stdin=subprocess.DEVNULL, fails=True))
        self.assertEqual(self.installed(), before)
        run(*remove, "--yes", "--keep")
        self.assertEqual(self.installed(), {"etc/idlegate/proxy.toml": b"# Edited.\n"})
        run(*remove, "--yes")
        self.assertEqual(self.installed(), {})
        self.assertIn("nothing", run(*remove, "--yes"))

    def package(self, name, *options, binary=BINARY):
        """Builds a package, and unpacks it: its path, its files, what dpkg reads of it."""
        command = (PROJECT / "deploy/debian/build", "--binary", binary, "--output", self.folder / name, *options)
        # Which compresses faster.
        built = pathlib.Path(run(*command, env={**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "gzip"}).strip())
        self.assertEqual(list((self.folder / name).iterdir()), [built])
        run("dpkg-deb", "--raw-extract", built, self.folder / name / "unpacked")
        control = (self.folder / name / "unpacked/DEBIAN/control").read_text()
        return built, self.folder / name / "unpacked", dict(re.findall(r"^(\S+): (.*)$", control, re.MULTILINE))

    def test_the_package_has_what_the_script_installs_where_debian_wants_it(self):
        built, unpacked, control = self.package("one")
        run(SYSTEMD / "install", "--binary", BINARY, "--root", self.folder / "installed")
        moved = {"usr/local/share/zsh/site-functions": "usr/share/zsh/vendor-completions", "usr/local/": "usr/"}
        moved["etc/systemd/system"] = "usr/lib/systemd/system"
        for file in (path for path in (self.folder / "installed").rglob("*") if path.is_file()):
            name = str(file.relative_to(self.folder / "installed"))
            for old, new in moved.items():
                name = name.replace(old, new)
            wanted = file.read_bytes()
            if name.startswith("usr/share/man/"):
                self.assertEqual(gzip.decompress((unpacked / f"{name}.gz").read_bytes()), wanted)
            else:
                self.assertEqual((unpacked / name).read_bytes().replace(b"/usr/bin/idle", b"/usr/local/bin/idle"), wanted, name)
        self.assertEqual((unpacked / "usr/lib/idlegate/start").read_bytes(), (SYSTEMD / "install").read_bytes())
        for text in (unpacked / "usr/lib/systemd").rglob("idlegate.*"), (unpacked / "usr/share/idlegate").rglob("*.conf"):
            self.assertNotIn("/usr/local", "".join(file.read_text() for file in text))
        self.assertIn("/usr/bin/idlegate run", (unpacked / "usr/lib/systemd/system/idlegate.service").read_text())
        self.assertEqual((unpacked / "DEBIAN/conffiles").read_text(), "/etc/idlegate/proxy.toml\n")
        self.assertEqual((unpacked / "etc/idlegate/secrets").stat().st_mode & 0o777, 0o700)
        listed = run("dpkg-deb", "--contents", built).splitlines()
        self.assertEqual({line.split()[1] for line in listed}, {"root/root"})
        run("md5sum", "--check", "--quiet", "DEBIAN/md5sums", cwd=unpacked)
        self.assertIn(control["Version"].split("+")[0], run(BINARY, "--version"))
        # Statically linked, as here.
        self.assertEqual(control["Depends"], "init-system-helpers (>= 1.54~), systemd (>= 252)")
        again, _, _ = self.package("two")
        self.assertEqual((again.name, again.read_bytes()), (built.name, built.read_bytes()))

    def test_the_package_of_a_program_with_libraries_depends_on_them(self):
        source = self.folder / "program.c"
        source.write_text(f'#include <unistd.h>\nint main(int n, char **a) {{ (void)n; return execv("{BINARY}", a); }}\n')
        run("cc", "-o", self.folder / "program", source)
        _, _, control = self.package("linked", "--version", "7", binary=self.folder / "program")
        self.assertRegex(control["Depends"], r", libc6 \(>= 2\.\d+\)$")
        self.assertEqual(control["Version"], "7")

    def test_what_cannot_be_is_said(self):
        for options, said in (
            (["--binary", "/nowhere"], "build it by `cargo build --profile dist --features mimalloc`"),
            (["--binary", "/bin/false"], "/bin/false does not run here"),
            (["--config"], "--config needs a value"),
            # A variable that was never set is not the system itself.
            (["--root", ""], "--root needs a value"),
            (["--binary", BINARY, "--root", self.folder, "--config", "/dev/null"], "no configuration /dev/null"),
            (["--start"], "--start is no option"),
            (["--binary", BINARY, "--root", self.folder, "--config", "/nowhere"], "no configuration /nowhere"),
        ):
            self.assertIn(said, run(SYSTEMD / "install", *options, fails=True))
        for options, said in (
            (["--binary", "/nowhere"], "there is no program /nowhere"),
            (["--binary", "/bin/false"], "/bin/false does not run here"),
            (["--binary", BINARY, "--config", "/nowhere"], "no configuration /nowhere"),
            (["--version", ""], "--version needs a value"),
            (["--start"], "--start is no option"),
        ):
            self.assertIn(said, run(PROJECT / "deploy/debian/build", *options, fails=True))
        self.assertIn("--root needs a value", run(SYSTEMD / "uninstall", "--root", "", "--yes", fails=True))
        self.assertEqual(self.installed(), {})

    def test_who_comes_during_a_restart_waits_in_the_socket(self):
        """systemd-socket-activate listens, and hands its socket to one idlegate after the other."""
        with socket.create_server(("127.0.0.1", 0)) as app, socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
            free.close()
            config = self.folder / "proxy.toml"
            rule = '[[token]]\nfrom = "bearer"\n'
            config.write_text(f'upstream = "http://127.0.0.1:{app.getsockname()[1]}"\n{rule}')
            # Like systemd, it keeps the socket while nobody serves it. LISTEN_PID says whom it is for.
            keeper = 'while :; do (LISTEN_PID=$BASHPID exec "$@") || exit; done'
            served = ("bash", "-c", keeper, "keeper", BINARY, "run", "--config", config)
            listening = ("systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=idlegate", *served)
            process = subprocess.Popen(listening, stderr=subprocess.PIPE, text=True, start_new_session=True)
            try:
                self.assertIn("Listening on", process.stderr.readline())
                self.assertEqual(self.ask(app, port), b"HTTP/1.1 200 OK\r\n")
                one = self.child(process.pid, other_than=None)
                os.kill(one, 15)
                self.assertEqual(self.ask(app, port), b"HTTP/1.1 200 OK\r\n")
                self.child(process.pid, other_than=one)
            except BaseException:
                os.killpg(process.pid, 9)
                print(process.communicate()[1])
                raise
            os.killpg(process.pid, 9)
            process.communicate()

    @staticmethod
    def ask(app, port):
        """Asks for something, answers it as the app, and returns how the answer begins."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            app.settimeout(PATIENCE)
            asked, _ = app.accept()
            with asked:
                asked.recv(65536)
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            with client.makefile("rb") as answer:
                return answer.readline()

    @staticmethod
    def child(process, other_than):
        """The idlegate that serves now."""
        children = pathlib.Path(f"/proc/{process}/task/{process}/children")
        deadline = time.monotonic() + PATIENCE
        while (now := children.read_text().split()) in ([], [str(other_than)]):
            assert time.monotonic() < deadline, now
            time.sleep(0.01)
        return int(now[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
