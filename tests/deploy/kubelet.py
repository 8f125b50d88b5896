"""The kubelet's part for one Pod: volumes, order of start, probes, and the end, as the Pod's manifest says.

Left out is what the tests do not touch: restarts after a probe has failed for good (the Pod only says so), limits of memory, seccomp.
"""
import http.client
import pathlib
import signal
import subprocess
import threading
import time

import image
from manifests import container, environment
from network import NAMES, NODE

# As the kubelet writes it for a Pod of the namespace `default`.
RESOLVER = f"nameserver {NAMES}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
# What a container has at the least after its SIGTERM, however little is left.
SHORTEST_END = 2


class ConfigMapVolume:
    """A mounted ConfigMap: each file is a link into `..data`, which is a link to the folder of the current edition."""

    def __init__(self, folder, data):
        self.folder = folder
        self.edition = 0
        self.update(data)
        for name in data:
            (folder / name).symlink_to(f"..data/{name}")

    def update(self, data):
        self.edition += 1
        edition = self.folder / f"..edition-{self.edition}"
        edition.mkdir(mode=0o755)
        for name, text in data.items():
            (edition / name).write_text(text)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(edition.name)
        fresh.rename(self.folder / "..data")


class Probe(threading.Thread):
    """Asks again and again, from the node, at the Pod's address. `outcomes` has what came of it."""

    def __init__(self, container, kind, address):
        super().__init__(daemon=True)
        settings = container[kind]
        port = settings["httpGet"]["port"]
        named = {port["name"]: port["containerPort"] for port in container["ports"]}
        self.address = (address, named.get(port, port))
        self.path = settings["httpGet"]["path"]
        self.timeout = settings.get("timeoutSeconds", 1)
        self.period = settings.get("periodSeconds", 10)
        self.threshold = settings.get("failureThreshold", 3)
        self.until_success = kind == "startupProbe"
        self.outcomes = []
        self.good = False
        self.failed = False
        self.stopped = threading.Event()

    def ask(self):
        connection = http.client.HTTPConnection(*self.address, timeout=self.timeout, source_address=(NODE, 0))
        try:
            connection.request("GET", self.path, headers={"User-Agent": "kube-probe/1.30", "Connection": "close"})
            return 200 <= connection.getresponse().status < 400
        except OSError:
            return False
        finally:
            connection.close()

    def run(self):
        failures = 0
        while not self.stopped.is_set():
            outcome = self.ask()
            failures = 0 if outcome else failures + 1
            if outcome:
                self.good = True
            elif failures >= self.threshold:
                self.good, self.failed = False, True
            self.outcomes.append(outcome)
            if self.until_success and (self.good or self.failed):
                return
            self.stopped.wait(self.period)


class Pod:
    """A Pod with idlegate and the app. `app` makes the app's command of its variables."""

    def __init__(self, manifest, config_map, network, folder, app):
        self.spec = manifest["spec"]
        self.network = network
        self.folder = pathlib.Path(folder)
        self.sidecar = container(manifest, "idlegate")
        (self.app,) = self.spec["containers"]
        self.app_command = app(environment(self.app))
        self.probes = {}
        self.ended = {}
        self.terminated = {}
        self.said = {}
        for name, text in {"hosts": f"127.0.0.1 localhost\n{network.address} pod\n", "resolv.conf": RESOLVER}.items():
            (self.folder / name).write_text(text)
        self.mounts = {f"/etc/{name}": (self.folder / name, False) for name in ("hosts", "resolv.conf")}
        by_name = {volume["name"]: volume for volume in self.spec["volumes"]}
        for mount in self.sidecar["volumeMounts"]:
            volume, at = by_name[mount["name"]], self.folder / mount["name"]
            at.mkdir()
            if "configMap" in volume:
                at.chmod(0o755)
                self.config = ConfigMapVolume(at, config_map["data"])
            else:
                # An emptyDir: for whatever user the container has.
                at.chmod(0o777)
            self.mounts[mount["mountPath"]] = (at, not mount.get("readOnly", False))

    # --- the start ---------------------------------------------------------------------------------------------------

    def start_sidecar(self, variables):
        """Returns when its startup probe has succeeded, or has failed for good."""
        self.idlegate_environment = environment(self.sidecar) | variables
        with open(self.folder / "idlegate.log", "wb") as log:
            self.idlegate = image.start(
                self.sidecar["args"],
                mounts=self.mounts,
                environment=self.idlegate_environment,
                user=self.sidecar["securityContext"]["runAsUser"],
                enter=self.network.enter,
                stdout=log,
                stderr=log,
            )
        startup = self._probe(self.sidecar, "startupProbe")
        startup.join()
        if startup.good:
            self._probe(self.sidecar, "readinessProbe")
            self._probe(self.sidecar, "livenessProbe")
        return startup

    def start_app(self):
        with open(self.folder / "app.log", "wb") as log:
            self.app_process = subprocess.Popen([*self.network.enter, *self.app_command], stdout=log, stderr=log)
        self._probe(self.app, "readinessProbe")

    def _probe(self, container, kind):
        probe = Probe(container, kind, self.network.address)
        self.probes[container["name"], kind] = probe
        probe.start()
        return probe

    def is_ready(self):
        readiness = [probe for (_, kind), probe in self.probes.items() if kind == "readinessProbe"]
        return len(readiness) == 2 and all(probe.good for probe in readiness)

    def log(self):
        return (self.folder / "idlegate.log").read_text()

    # --- in between --------------------------------------------------------------------------------------------------

    def execute(self, command):
        """`kubectl exec`: in idlegate's own container, as its user, with its variables."""
        user = str(self.sidecar["securityContext"]["runAsUser"])
        enter = ["nsenter", "--target", str(self.idlegate.pid), "--mount", "--net", "--root", "--wd=/"]
        enter += ["--setgid", user, "--setuid", user]
        variables = image.ENVIRONMENT | self.idlegate_environment
        return subprocess.run([*enter, *command], env=variables, capture_output=True, text=True, timeout=60)

    # --- the end -----------------------------------------------------------------------------------------------------

    def terminate(self):
        """Both preStop hooks at once; the app's SIGTERM when its own is over; idlegate's when the app has ended."""
        for probe in self.probes.values():
            probe.stopped.set()
        grace = self.spec["terminationGracePeriodSeconds"]
        app_ended = threading.Event()
        ends = [
            threading.Thread(target=self._end, args=(self.app, self.app_process, grace, None, app_ended)),
            threading.Thread(target=self._end, args=(self.sidecar, self.idlegate, grace, app_ended, threading.Event())),
        ]
        for end in ends:
            end.start()
        return ends

    def _end(self, container, process, grace, turn, ended):
        name, until = container["name"], time.monotonic() + grace
        hook = container["lifecycle"]["preStop"]
        if "sleep" in hook:
            time.sleep(hook["sleep"]["seconds"])
        else:
            self.said[name] = self.execute(hook["exec"]["command"])
        if turn is not None:
            turn.wait(max(0, until - time.monotonic()))
        self.terminated[name] = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(max(SHORTEST_END, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.ended[name] = time.monotonic()
        ended.set()

    def close(self):
        for probe in self.probes.values():
            probe.stopped.set()
        for process in [getattr(self, "idlegate", None), getattr(self, "app_process", None)]:
            if process is not None:
                process.kill()
                process.wait()
        self.network.close()
