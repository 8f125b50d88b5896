"""A Pod with idlegate as the manifests have it, from its start to its end, without a cluster.

    tests/run sidecar

The image's root filesystem, the stand-in for the app and Redis are three processes; the Pod has a network namespace of its own, with
the NetworkPolicy of the manifests in force. The kubelet's part is played by kubelet.py. About a minute.
"""
import http.client
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import image
import network
from clients import Browsing, Sockets
from kubelet import Pod
from manifests import FOLDER, pod_of, render
from names import NameServer
from waiting import eventually

# What a cluster sets in each container for the Service of Redis.
SERVICES = {"IDLEGATE_REDIS_SERVICE_HOST": network.REDIS, "IDLEGATE_REDIS_PORT_6379_TCP": f"tcp://{network.REDIS}:6379"}
# How long it takes until a Pod that ends is no longer where a Service sends clients.
ENDPOINTS_LAG = 2


def setUpModule():
    network.prepare()
    NameServer(network.NAMES, {"idlegate-redis.default.svc.cluster.local": network.REDIS})


def app_command(variables):
    """The app listens wherever it is reached: that it is not is the NetworkPolicy's doing."""
    app = image.REPOSITORY / "tests/app/app.py"
    return [sys.executable, str(app), "--port", variables["PORT"], "--address", "0.0.0.0"]


class Redis:
    def __init__(self, folder):
        command = ["redis-server", "--bind", network.REDIS, "--protected-mode", "no", "--dir", folder, "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually("Redis", lambda: self.ask("PING") == "PONG")

    @staticmethod
    def ask(*command):
        return subprocess.run(["redis-cli", "-h", network.REDIS, *command], capture_output=True, text=True).stdout.strip()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Deployed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        # Whoever a container runs as has to come as far as its volumes.
        self.folder.chmod(0o755)
        self.objects = render(FOLDER / "example")

    def redis(self):
        redis = Redis(str(self.folder))
        self.addCleanup(redis.kill)
        return redis

    def pod(self, number=10):
        pod_network = network.PodNetwork(f"10.77.0.{number}")
        self.addCleanup(pod_network.close)
        pod_network.enforce(self.objects["NetworkPolicy", "idlegate-classroom"], {"monitoring": network.PROMETHEUS})
        folder = self.folder / f"pod-{number}"
        folder.mkdir(mode=0o755)
        manifest = pod_of(self.objects["Deployment", "classroom"])
        pod = Pod(manifest, self.objects["ConfigMap", "idlegate-classroom"], pod_network, folder, app_command)
        self.addCleanup(pod.close)
        return pod

    def running(self, number=10):
        pod = self.pod(number)
        self.assertTrue(pod.start_sidecar(SERVICES).good, pod.log())
        pod.start_app()
        eventually("the Pod to be ready", pod.is_ready, 60)
        return pod

    def get(self, pod, port, path, source=network.CLIENT):
        connection = http.client.HTTPConnection(pod.network.address, port, timeout=3, source_address=(source, 0))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return None
        finally:
            connection.close()

    def readiness(self, pod):
        return pod.probes["idlegate", "readinessProbe"]


class Start(Deployed):
    def test_it_starts_before_the_app_and_without_redis(self):
        pod = self.pod()
        startup = pod.start_sidecar(SERVICES)
        self.assertTrue(startup.good, pod.log())
        eventually("a first answer about readiness", lambda: self.readiness(pod).outcomes)
        self.assertTrue(self.readiness(pod).good)
        self.assertEqual(self.get(pod, 9091, "/readyz", network.PROMETHEUS), (200, "ready\nstore: out\n"))
        # The app's own probe comes by way of idlegate, and it has not been started.
        self.assertEqual(self.get(pod, 10086, "/health")[0], 502)
        self.assertFalse(pod.is_ready())
        pod.start_app()
        eventually("the Pod to be ready", pod.is_ready, 60)
        self.redis()
        up = (200, "ready\nstore: up\n")
        eventually("Redis to be found", lambda: self.get(pod, 9091, "/readyz", network.PROMETHEUS) == up)


class Running(Deployed):
    def test_nobody_reaches_the_app_but_through_idlegate(self):
        self.redis()
        pod = self.running()
        self.assertEqual(self.get(pod, 10086, "/health")[0], 200)
        # It listens there for the whole network, and only the policy keeps clients out.
        self.assertEqual(self.get(pod, 10087, "/health", network.NODE)[0], 200)
        self.assertIsNone(self.get(pod, 10087, "/health"))
        self.assertEqual(self.get(pod, 9091, "/metrics", network.PROMETHEUS)[0], 200)
        self.assertIsNone(self.get(pod, 9091, "/metrics"))

    def test_it_stays_ready_while_redis_is_gone(self):
        redis = self.redis()
        pod = self.running()
        redis.kill()
        readiness, liveness = self.readiness(pod), pod.probes["idlegate", "livenessProbe"]
        out = (200, "ready\nstore: out\n")
        eventually("idlegate to notice", lambda: self.get(pod, 9091, "/readyz", network.PROMETHEUS) == out)
        asked = len(readiness.outcomes)
        eventually("more probes than may fail", lambda: len(readiness.outcomes) > asked + readiness.threshold, 60)
        self.assertTrue(all(readiness.outcomes) and all(liveness.outcomes), (readiness.outcomes, liveness.outcomes))
        self.assertEqual(self.get(pod, 10086, "/health")[0], 200)

    def test_an_edit_of_the_configmap_arrives(self):
        self.redis()
        pod = self.running()
        sessions = Sockets(pod.network.address, 1)
        self.addCleanup(sessions.close)
        rules = self.objects["ConfigMap", "idlegate-classroom"]["data"]["proxy.toml"]
        pod.config.update({"proxy.toml": rules.replace("[idle]\n", '[idle]\nmode = "observe"\n')})
        eventually("the edit", lambda: "configuration reloaded: idle.mode" in pod.log())
        told = pod.execute(["/idlegate", "mode"])
        self.assertIn("file              observe", told.stdout, told.stderr)
        self.assertEqual(sessions.open(), 1)

    def test_an_operator_switches_all_from_one_container(self):
        self.redis()
        pods = [self.running(10), self.running(11)]
        told = pods[0].execute(["/idlegate", "mode", "off", "--fleet"])
        self.assertEqual(told.returncode, 0, told.stderr)
        for pod in pods:
            eventually("the switch", lambda pod=pod: "fleet             off" in pod.execute(["/idlegate", "mode"]).stdout)


class End(Deployed):
    def test_a_rollout_loses_no_request_and_tells_every_websocket(self):
        self.redis()
        old = self.running(10)
        endpoints = [old.network.address]
        sockets = Sockets(old.network.address, 12)
        self.addCleanup(sockets.close)
        browsing = Browsing(lambda: random.choice(endpoints), 6)
        self.addCleanup(browsing.close)
        # As a Deployment does it: the new one first, then the old one ends.
        new = self.running(11)
        endpoints.append(new.network.address)
        begun = time.monotonic()
        ends = old.terminate()
        lag = threading.Timer(ENDPOINTS_LAG, endpoints.remove, [old.network.address])
        lag.start()
        for end in ends:
            end.join()
        answered = browsing.answered()
        eventually("the new Pod to be used", lambda: browsing.answered() > answered + 100)
        browsing.close()
        self.assertEqual(old.said["idlegate"].returncode, 0, old.said["idlegate"].stderr)
        self.assertEqual(old.idlegate.returncode, 0, old.log())
        self.assertEqual(browsing.lost, [])
        # Every WebSocket was told to come again, while the app was still there, and not all of them in one go.
        closes = sockets.closes()
        self.assertEqual([code for code, _ in closes], [1012] * 12)
        moments = sorted(at for _, at in closes)
        self.assertLess(moments[-1], old.terminated["classroom"])
        self.assertGreater(len({int(at - begun) for at in moments}), 3, [at - begun for at in moments])
        for session, active in sockets.sessions():
            known = Redis.ask("HGET", f"idlegate:session:{session}", "last_activity")
            self.assertGreaterEqual(int(known), int(active) - 1, "what they did last is in Redis")


if __name__ == "__main__":
    unittest.main()
