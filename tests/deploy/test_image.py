"""The image without a container engine: what is in its root filesystem, and that idlegate needs nothing else.

    tests/run image

Runs in namespaces of its own (network, mounts, processes), which end with it.
"""
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
import unittest
import urllib.error
import urllib.request

import image
from names import NameServer
from waiting import eventually

CONFIG = """
listen = "127.0.0.1:10086"
upstream = "http://127.0.0.1:10087"

[store]
url = "redis://idlegate-redis:6379/0"

[[token]]
from = "bearer"
"""
# As the kubelet writes it for a Pod.
RESOLVER = "nameserver 127.0.0.1\nsearch default.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
HOSTS = "127.0.0.1 localhost\n"


class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_arguments):
        pass


def status_of(path, headers=None):
    try:
        request = urllib.request.Request(f"http://127.0.0.1:10086{path}", headers=headers or {})
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Contents(unittest.TestCase):
    def test_there_are_two_files_and_the_second_is_public(self):
        files = {path.relative_to(image.ROOT).as_posix(): path for path in image.ROOT.rglob("*") if not path.is_dir()}
        self.assertEqual(sorted(files), ["etc/ssl/certs/ca-certificates.crt", "idlegate"])
        modes = {name: path.lstat().st_mode & 0o7777 for name, path in files.items()}
        self.assertEqual(modes, {"etc/ssl/certs/ca-certificates.crt": 0o644, "idlegate": 0o755})

    def test_a_folder_with_something_else_is_not_touched(self):
        with tempfile.TemporaryDirectory() as folder:
            other = pathlib.Path(folder) / "idlegate.service"
            other.write_text("theirs")
            script = image.REPOSITORY / "deploy/rootfs"
            ran = subprocess.run([script, folder], capture_output=True, text=True)
            self.assertEqual((ran.returncode, ran.stdout), (1, ""))
            self.assertIn("has other files", ran.stderr)
            self.assertEqual([path.name for path in pathlib.Path(folder).iterdir()], [other.name])

    def test_it_is_as_small_as_the_guide_says(self):
        guide = (image.REPOSITORY / "deploy/README.md").read_text()
        (stated,) = re.findall(r"The image is (\d+) MB", guide)
        size = sum(path.stat().st_size for path in image.ROOT.rglob("*") if path.is_file())
        self.assertAlmostEqual(size / 1e6, int(stated), delta=1, msg=f"{size} bytes, and the guide says {stated} MB")

    def test_the_image_is_this_on_nothing_and_not_root(self):
        self.assertEqual(image.SETTINGS["base"], "scratch")
        self.assertEqual(image.SETTINGS["COPY"], "--from=build /rootfs/ /")
        self.assertRegex(image.SETTINGS["USER"], r"^[1-9]\d+:[1-9]\d+$")
        self.assertIn("\n    deploy/rootfs /rootfs\n", (image.REPOSITORY / "deploy/Dockerfile").read_text())

    def test_the_version_is_the_crates(self):
        (version,) = re.findall(r'^version = "(.*)"$', (image.REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)
        self.assertIn(f'org.opencontainers.image.version="{version}"', image.SETTINGS["LABEL"])

    def test_the_build_sees_all_that_it_needs_and_little_else(self):
        ignore = (image.REPOSITORY / "deploy/Dockerfile.dockerignore").read_text().splitlines()
        patterns = [line for line in ignore if line and not line.startswith("#")]
        self.assertEqual(patterns[0], "*")
        admitted = [pattern.removeprefix("!") for pattern in patterns[1:]]

        def is_seen(file):
            return any(file == path or file.startswith(path + "/") for path in admitted)

        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", image.REPOSITORY / "target"))
        # What the compiler read, as it told cargo.
        (told,) = target.glob("*-linux-*/dist/idlegate.d")
        # As in a Makefile, a space within a path has a backslash in front.
        words = re.split(r"(?<!\\)\s+", told.read_text().split(": ", 1)[1].strip())
        read = [pathlib.Path(word.replace("\\ ", " ")) for word in words]
        sources = {path.relative_to(image.REPOSITORY).as_posix() for path in read if path.is_absolute()}
        sources = {path for path in sources if not path.startswith(".git/")}
        self.assertGreater(len(sources), 50)
        for file in sources | {"Cargo.toml", "Cargo.lock", "deploy/rootfs"}:
            self.assertTrue(is_seen(file), file)
        for file in [".git/config", "target/CACHEDIR.TAG", "tests/run", "deploy/README.md"]:
            self.assertFalse(is_seen(file), file)


def built(*options, fails=False, **environment):
    """What deploy/image says."""
    command = [image.REPOSITORY / "deploy/image", *options]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert (ran.returncode != 0) == fails, (command, ran)
    return ran.stderr if fails else ran.stdout.strip()


class Archive(unittest.TestCase):
    """The image as an OCI archive: unpacked here as the specification says, and by umoci, which others wrote."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.folder.chmod(0o755)
        cls.options = ["--rootfs", image.ROOT, "--name", "registry.example/idlegate:7"]
        cls.archive = cls.folder / "idlegate.tar"
        assert built(*cls.options, "--output", cls.archive) == str(cls.archive)
        cls.layout = cls.folder / "layout"
        with tarfile.open(cls.archive) as archive:
            archive.extractall(cls.layout)
        cls.index = json.loads((cls.layout / "index.json").read_text())
        (cls.listed,) = cls.index["manifests"]
        cls.manifest = json.loads(cls.blob(cls.listed))
        cls.config = json.loads(cls.blob(cls.manifest["config"]))
        (descriptor,) = cls.manifest["layers"]
        cls.layer = gzip.decompress(cls.blob(descriptor))

    @classmethod
    def blob(cls, descriptor):
        content = (cls.layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
        assert descriptor["size"] == len(content), descriptor
        assert descriptor["digest"] == "sha256:" + hashlib.sha256(content).hexdigest(), descriptor
        return content

    def test_it_is_a_layout_of_the_specification_with_nothing_else(self):
        self.assertEqual(json.loads((self.layout / "oci-layout").read_text()), {"imageLayoutVersion": "1.0.0"})
        files = {path.relative_to(self.layout).as_posix() for path in self.layout.rglob("*") if path.is_file()}
        blobs = [self.listed, self.manifest["config"], *self.manifest["layers"]]
        named = {"blobs/" + blob["digest"].replace(":", "/") for blob in blobs}
        self.assertEqual(files, {"index.json", "oci-layout"} | named)
        self.assertEqual([self.index["schemaVersion"], self.manifest["schemaVersion"]], [2, 2])
        kinds = [each["mediaType"] for each in (self.index, self.listed, self.manifest, *blobs[1:])]
        expected = ["index.v1+json", "manifest.v1+json", "manifest.v1+json", "config.v1+json", "layer.v1.tar+gzip"]
        self.assertEqual(kinds, [f"application/vnd.oci.image.{kind}" for kind in expected])
        annotations = {"org.opencontainers.image.ref.name": "7", "io.containerd.image.name": "registry.example/idlegate:7"}
        self.assertEqual(self.listed["annotations"], annotations)

    def test_its_configuration_is_that_of_the_dockerfile(self):
        config = self.config["config"]
        self.assertEqual((config["Entrypoint"], config["User"]), (image.ENTRYPOINT, image.SETTINGS["USER"]))
        self.assertEqual(dict(variable.split("=", 1) for variable in config["Env"]), image.ENVIRONMENT)
        self.assertEqual(list(config["ExposedPorts"]), [f"{port}/tcp" for port in image.SETTINGS["EXPOSE"].split()])
        labels = dict(word.split("=", 1) for word in shlex.split(image.SETTINGS["LABEL"]))
        revision = subprocess.run([image.ROOT / "idlegate", "--version"], capture_output=True, text=True).stdout
        labels["org.opencontainers.image.revision"] = revision.split("(")[1].split(")")[0]
        self.assertEqual(config["Labels"], labels)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        self.assertEqual((self.config["os"], self.config["architecture"]), ("linux", machine))
        self.assertEqual(self.listed["platform"], {"os": "linux", "architecture": machine})

    def test_its_layer_is_the_root_filesystem_and_roots(self):
        diff = "sha256:" + hashlib.sha256(self.layer).hexdigest()
        self.assertEqual(self.config["rootfs"], {"type": "layers", "diff_ids": [diff]})
        with tarfile.open(fileobj=io.BytesIO(self.layer)) as layer:
            entries = layer.getmembers()
            files = {entry.name: layer.extractfile(entry).read() for entry in entries if entry.isfile()}
        names = [entry.name for entry in entries]
        self.assertEqual(names, sorted(names))
        there = {path.relative_to(image.ROOT).as_posix(): path for path in image.ROOT.rglob("*")}
        self.assertEqual(set(names), set(there))
        self.assertEqual(files, {name: path.read_bytes() for name, path in there.items() if path.is_file()})
        self.assertEqual({(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries}, {(0, 0, "", "")})
        modes = {entry.name: entry.mode for entry in entries if entry.isfile()}
        self.assertEqual(modes, {"etc/ssl/certs/ca-certificates.crt": 0o644, "idlegate": 0o755})
        self.assertEqual({entry.mode for entry in entries if entry.isdir()}, {0o755})

    def test_the_same_makes_the_same_and_its_times_are_said_from_outside(self):
        def bytes_of(name, **environment):
            # Neither its times nor who may write to it are in the archive.
            copied = self.folder / name / "rootfs"
            shutil.copytree(image.ROOT, copied, copy_function=shutil.copy)
            copied.chmod(0o700)
            options = ["--rootfs", copied, "--name", "a:1", "--output", self.folder / f"{name}.tar"]
            return pathlib.Path(built(*options, **environment)).read_bytes()

        one = bytes_of("one", SOURCE_DATE_EPOCH="86400")
        self.assertEqual(bytes_of("two", SOURCE_DATE_EPOCH="86400"), one)
        self.assertNotEqual(bytes_of("three", SOURCE_DATE_EPOCH="86401"), one)
        with tarfile.open(self.folder / "one.tar") as archive:
            self.assertEqual({entry.mtime for entry in archive}, {86400})

    def test_what_cannot_be_is_said(self):
        self.assertIn("no idlegate in /nowhere", built("--rootfs", "/nowhere", fails=True))
        self.assertIn("has no tag: --name here:5000/a:0.1.0", built("--rootfs", image.ROOT, "--name", "here:5000/a", fails=True))
        empty = self.folder / "empty"
        empty.mkdir()
        (empty / "idlegate").write_text("#!/bin/sh\n")
        self.assertIn("is no program for", built("--rootfs", empty, fails=True))

    def unpack(self, name):
        ran = subprocess.run(
            ["umoci", "unpack", "--image", f"{self.layout}:7", self.folder / name], capture_output=True, text=True
        )
        return ran.returncode, ran.stderr

    def test_umoci_unpacks_it_and_its_program_runs(self):
        self.assertEqual(self.unpack("bundle")[0], 0, self.unpack("again"))
        bundle = self.folder / "bundle"
        process = json.loads((bundle / "config.json").read_text())["process"]
        self.assertEqual((process["args"], process["cwd"]), (image.ENTRYPOINT, "/"))
        self.assertEqual(f"{process['user']['uid']}:{process['user']['gid']}", image.SETTINGS["USER"])
        self.assertIn("IDLEGATE_CONFIG=/etc/idlegate/proxy.toml", process["env"])
        root = bundle / "rootfs"
        config = self.folder / "proxy.toml"
        config.write_text(CONFIG)
        mounts = {"/etc/idlegate/proxy.toml": (config, False)}
        ran = image.start(["check"], mounts=mounts, root=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertTrue(ran.communicate(timeout=30)[0].startswith("/etc/idlegate/proxy.toml: valid; "))

    def test_umoci_would_notice_a_wrong_digest(self):
        layer = self.layout / "blobs" / self.manifest["layers"][0]["digest"].replace(":", "/")
        right = layer.read_bytes()
        self.addCleanup(layer.write_bytes, right)
        layer.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        self.assertNotEqual(self.unpack("broken")[0], 0)


class Alone(unittest.TestCase):
    """The program with nothing but the image, what a runtime adds, and a configuration."""

    @classmethod
    def setUpClass(cls):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.folder.chmod(0o755)
        for name, text in {"proxy.toml": CONFIG, "resolv.conf": RESOLVER, "hosts": HOSTS}.items():
            (cls.folder / name).write_text(text)
        cls.names = NameServer("127.0.0.1", {"idlegate-redis.default.svc.cluster.local": "127.0.0.1"})
        app = http.server.ThreadingHTTPServer(("127.0.0.1", 10087), App)
        threading.Thread(target=app.serve_forever, daemon=True).start()
        cls.certificates()
        redis = ["redis-server", "--dir", folder.name, "--save", "", "--tls-port", "6380", "--tls-auth-clients", "no"]
        redis += ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]
        running = subprocess.Popen(redis, stdout=subprocess.DEVNULL)
        cls.addClassCleanup(running.wait)
        cls.addClassCleanup(running.kill)
        eventually("Redis", lambda: cls.redis("PING") == "PONG")

    @classmethod
    def certificates(cls):
        """One that signed itself, and so is its own authority."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
            + ["-subj", "/CN=idlegate-redis", "-addext", "subjectAltName=DNS:idlegate-redis", "-addext"]
            + ["basicConstraints=critical,CA:FALSE", "-keyout", "server.key", "-out", "server.pem"],
            cwd=cls.folder,
            check=True,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def redis(*command):
        return subprocess.run(["redis-cli", *command], capture_output=True, text=True).stdout.strip()

    def start(self, *arguments, environment=None, mounts=None, **streams):
        always = {
            "/etc/idlegate/proxy.toml": (self.folder / "proxy.toml", False),
            "/etc/resolv.conf": (self.folder / "resolv.conf", False),
            "/etc/hosts": (self.folder / "hosts", False),
        }
        return image.start(arguments, mounts=always | (mounts or {}), environment=environment, **streams)

    def says(self, *arguments, **more):
        started = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        return started.communicate(timeout=30)[0]

    def test_check(self):
        self.assertTrue(self.says("check").startswith("/etc/idlegate/proxy.toml: valid; "))
        told = self.says("check", environment={"IDLEGATE_IDLE_TIMEOUT": "soon"})
        self.assertIn("environment variable IDLEGATE_IDLE_TIMEOUT: ", told)

    def test_it_serves_and_finds_redis_by_its_name(self):
        with self.start("run", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
            try:
                eventually("an answer", lambda: status_of("/") == 200)
                self.assertEqual(status_of("/", {"Authorization": "Bearer a-token-of-somebody"}), 200)
                session = hashlib.sha256(b"a-token-of-somebody").hexdigest()[:32]
                eventually("the session", lambda: self.redis("HGET", f"idlegate:session:{session}", "last_activity"))
                self.assertIn("idlegate-redis.default.svc.cluster.local", self.names.asked)
                self.confined(running.pid)
            finally:
                running.terminate()
            self.assertEqual(running.wait(timeout=30), 0, running.stdout.read())

    def confined(self, pid):
        """That the test is what it says: another would pass as root, with a whole Debian around it."""
        process = pathlib.Path(f"/proc/{pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        self.assertEqual(status["Name"], "idlegate")
        self.assertEqual(status["Uid"].split(), [str(image.USER)] * 4)
        self.assertEqual(status["NoNewPrivs"], "1")
        for kind in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"]:
            self.assertEqual(int(status[kind], 16), 0, kind)
        self.assertEqual(sorted(os.listdir(process / "root")), ["dev", "etc", "idlegate"])
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        (root,) = [mount for mount in mounts if mount[4] == "/"]
        self.assertIn("ro", root[-1].split(","))

    def test_it_trusts_the_authorities_of_the_image(self):
        tls = {"IDLEGATE_STORE_URL": "rediss://idlegate-redis:6380/0"}
        self.assertIn("WRONG  Redis at idlegate-redis:6380 does not answer (invalid peer certificate: UnknownIssuer)", self.says("doctor", environment=tls))
        # Where the image has its authorities, this one stands instead: so that is where they are looked for.
        instead = {"/etc/ssl/certs/ca-certificates.crt": (self.folder / "server.pem", False)}
        self.assertIn("good   Redis answers", self.says("doctor", environment=tls, mounts=instead))


if __name__ == "__main__":
    unittest.main()
