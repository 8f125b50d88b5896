"""deploy/kubernetes, as kubectl renders it: valid, and with all that the guide says of it.

    tests/run manifests
"""
import copy
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest

import kubernetes_validate
import yaml

import image
from manifests import FOLDER, container, environment, pod_of, render

# From the first that knows `sleep` and has sidecars switched on to the last that the validator knows.
VERSIONS = ["1.30", "1.33", "1.37"]

SIDECAR = ("Deployment", "classroom")


def edited(edit):
    """Renders the example after `edit` has changed a copy of the folder."""
    with tempfile.TemporaryDirectory() as folder:
        copied = pathlib.Path(folder) / "kubernetes"
        shutil.copytree(FOLDER, copied)
        edit(copied)
        return render(copied / "example")


def without_the_component(folder):
    file = folder / "example/kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text())
    del kustomization["components"]
    file.write_text(yaml.safe_dump(kustomization))


class Rendered(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.objects = render(FOLDER / "example")
        cls.app_alone = render(FOLDER / "example/app")
        cls.pod = pod_of(cls.objects[SIDECAR])
        cls.app = container(cls.pod, "classroom")
        cls.idlegate = container(cls.pod, "idlegate")


class Schemas(Rendered):
    def test_the_api_takes_every_object(self):
        for version in VERSIONS:
            for name, document in self.objects.items():
                with self.subTest(version=version, object=name):
                    kubernetes_validate.validate(document, version, strict=True)

    def test_the_api_would_refuse_a_mistake(self):
        document = copy.deepcopy(self.objects[SIDECAR])
        container(pod_of(document), "idlegate")["restartPolicies"] = "Always"
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document, VERSIONS[0], strict=True)


class Component(Rendered):
    def test_the_app_is_what_it_was_but_for_its_port_and_its_end(self):
        (before,) = pod_of(self.app_alone[SIDECAR])["spec"]["containers"]
        after = copy.deepcopy(self.app)
        self.assertEqual(after.pop("lifecycle"), {"preStop": {"sleep": {"seconds": 15}}})
        port = {"name": "PORT", "value": "10087"}
        self.assertEqual([port] + before["env"][1:], after["env"])
        self.assertEqual(before | {"env": after["env"]}, after)
        self.assertEqual(self.pod["spec"]["containers"], [self.app])
        self.assertEqual(self.objects[SIDECAR]["spec"]["selector"], self.app_alone[SIDECAR]["spec"]["selector"])

    def test_idlegate_is_a_native_sidecar(self):
        self.assertEqual(self.pod["spec"]["initContainers"], [self.idlegate])
        self.assertEqual(self.idlegate["restartPolicy"], "Always")
        self.assertEqual(self.idlegate["image"], "registry.example/idlegate:0.1.0")

    def test_it_has_the_apps_port_and_the_app_the_one_behind(self):
        ours = environment(self.idlegate)
        (service,) = self.objects["Service", "classroom"]["spec"]["ports"]
        (before,) = environment(pod_of(self.app_alone[SIDECAR])["spec"]["containers"][0])["PORT"],
        self.assertEqual(ours["IDLEGATE_LISTEN"], f"0.0.0.0:{service['targetPort']}")
        # The same number as before: Pods of before and after the change can be behind one Service.
        self.assertEqual(str(service["targetPort"]), before)
        self.assertIs(type(service["targetPort"]), int)
        self.assertEqual(ours["IDLEGATE_UPSTREAM"], f"http://127.0.0.1:{environment(self.app)['PORT']}")
        ports = {port["name"]: port["containerPort"] for port in self.idlegate["ports"]}
        self.assertEqual(ports, {"idlegate": service["targetPort"], "health": 9091})

    def test_every_probe_asks_the_health_listener(self):
        self.assertEqual(environment(self.idlegate)["IDLEGATE_HEALTH_LISTEN"], "0.0.0.0:9091")
        probes = {kind: self.idlegate[kind]["httpGet"] for kind in ["startupProbe", "readinessProbe", "livenessProbe"]}
        ready, alive = {"path": "/readyz", "port": 9091}, {"path": "/healthz", "port": 9091}
        self.assertEqual(probes, {"startupProbe": ready, "readinessProbe": ready, "livenessProbe": alive})

    def test_the_configuration_is_a_folder_that_edits_reach(self):
        (volume,) = [volume for volume in self.pod["spec"]["volumes"] if "configMap" in volume]
        (mount,) = [mount for mount in self.idlegate["volumeMounts"] if mount["name"] == volume["name"]]
        self.assertEqual(mount, {"name": volume["name"], "mountPath": "/etc/idlegate", "readOnly": True})
        # Without a hash: the name is the one that the running Pods have mounted.
        self.assertEqual(volume["configMap"], {"name": "idlegate"})
        self.assertEqual(list(self.objects["ConfigMap", "idlegate"]["data"]), ["proxy.toml"])
        self.assertEqual(image.ENVIRONMENT["IDLEGATE_CONFIG"], mount["mountPath"] + "/proxy.toml")

    def test_operators_come_by_a_socket_that_the_app_cannot_reach(self):
        socket = environment(self.idlegate)["IDLEGATE_ADMIN_LISTEN"]
        (mount,) = [mount for mount in self.idlegate["volumeMounts"] if socket.startswith(f"unix:{mount['mountPath']}/")]
        (volume,) = [volume for volume in self.pod["spec"]["volumes"] if volume["name"] == mount["name"]]
        self.assertIn("emptyDir", volume)
        self.assertNotIn("volumeMounts", self.app)

    def test_it_may_do_nothing_but_its_work(self):
        wanted = {
            "runAsNonRoot": True,
            "runAsUser": image.USER,
            "runAsGroup": image.USER,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        self.assertEqual(self.idlegate["securityContext"], wanted)
        self.assertEqual(self.idlegate["resources"]["limits"], {"memory": "256Mi"})
        self.assertEqual(self.idlegate["resources"]["requests"], {"cpu": "50m", "memory": "64Mi"})

    def test_no_token_of_the_cluster_is_in_the_pod(self):
        self.assertIs(self.pod["spec"]["automountServiceAccountToken"], False)

    def test_the_account_stays_the_apps(self):
        """The API server keeps a copy of serviceAccountName that outlives a component which sets it."""
        self.assertFalse({"serviceAccountName", "serviceAccount"} & self.pod["spec"].keys())
        self.assertNotIn("ServiceAccount", {kind for kind, _ in self.objects})

    def test_only_idlegate_is_let_in(self):
        policy = self.objects["NetworkPolicy", "idlegate"]["spec"]
        self.assertEqual(policy["policyTypes"], ["Ingress"])
        labels = policy["podSelector"]["matchLabels"].items()
        self.assertLessEqual(labels, self.pod["metadata"]["labels"].items())
        # A Pod without idlegate is not shut off by what may be left after a rollback.
        self.assertFalse(labels <= pod_of(self.app_alone[SIDECAR])["metadata"]["labels"].items())
        clients, prometheus = policy["ingress"]
        self.assertEqual(clients, {"ports": [{"protocol": "TCP", "port": 10086}]})
        self.assertEqual(prometheus["ports"], [{"protocol": "TCP", "port": 9091}])
        (peer,) = prometheus["from"]
        self.assertEqual(peer["namespaceSelector"]["matchLabels"], {"kubernetes.io/metadata.name": "monitoring"})

    def test_prometheus_is_told_where_to_look(self):
        annotations = self.pod["metadata"]["annotations"]
        self.assertEqual(annotations["prometheus.io/scrape"], "true")
        self.assertEqual(annotations["prometheus.io/port"], "9091")
        self.assertEqual(annotations["prometheus.io/path"], "/metrics")

    def test_the_end_has_time_for_all_of_it(self):
        self.assertEqual(self.idlegate["lifecycle"]["preStop"], {"exec": {"command": ["/idlegate", "drain"]}})
        config = tomllib.loads(self.objects["ConfigMap", "idlegate"]["data"]["proxy.toml"])
        # The default of `grace_period`, where the file says nothing else.
        grace = int(config.get("grace_period", "10s").removesuffix("s"))
        sleep = self.app["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreater(sleep, grace, "WebSockets are told before the app ends")
        for_the_app = pod_of(self.app_alone[SIDECAR])["spec"].get("terminationGracePeriodSeconds", 30)
        self.assertGreaterEqual(self.pod["spec"]["terminationGracePeriodSeconds"], sleep + for_the_app + grace)

    def test_an_app_with_a_lifecycle_of_its_own_is_noticed(self):
        def with_lifecycle(folder):
            file = folder / "example/app/deployment.yaml"
            file.write_text(
                file.read_text().replace(
                    "          readinessProbe:", "          lifecycle: { preStop: { exec: { command: [x] } } }\n          readinessProbe:"
                )
            )

        with self.assertRaisesRegex(ValueError, "lifecycle"):
            edited(with_lifecycle)

    def test_a_name_that_is_not_there_is_noticed(self):
        def renamed(folder):
            file = folder / "example/app/deployment.yaml"
            file.write_text(file.read_text().replace("  name: classroom\n", "  name: other\n", 1))

        with self.assertRaisesRegex(ValueError, "classroom"):
            edited(renamed)

    def test_what_is_not_labelled_is_left_alone(self):
        redis = render(FOLDER / "redis")
        self.assertEqual(redis, {name: self.objects[name] for name in redis})

    def test_another_port_is_one_number(self):
        def on_8000(folder):
            for file in [*(folder / "component").iterdir(), *(folder / "example/app").iterdir()]:
                file.write_text(file.read_text().replace("10086", "8000"))

        rendered = edited(on_8000)
        pod = pod_of(rendered[SIDECAR])
        self.assertEqual(environment(container(pod, "idlegate"))["IDLEGATE_LISTEN"], "0.0.0.0:8000")
        self.assertEqual(rendered["Service", "classroom"]["spec"]["ports"][0]["targetPort"], 8000)
        self.assertNotIn("10086", yaml.safe_dump_all(rendered.values()))


class Rollback(Rendered):
    def test_without_the_component_it_is_the_app_as_it_was(self):
        before = self.app_alone | render(FOLDER / "redis")
        self.assertEqual(edited(without_the_component), before)
        self.assertNotEqual(self.objects, before)


class Rules(Rendered):
    def check(self, text, variables):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            command = [image.ROOT / "idlegate", "check", "--json", "--config", file.name]
            return subprocess.run(command, env=variables, capture_output=True, text=True)

    def test_idlegate_takes_the_configuration_of_the_pod(self):
        text = self.objects["ConfigMap", "idlegate"]["data"]["proxy.toml"]
        variables = environment(self.idlegate)
        checked = self.check(text, variables)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(json.loads(checked.stdout)["listen"], "0.0.0.0:10086")
        # What a cluster sets in every Pod for the Service of Redis.
        services = {"IDLEGATE_REDIS_SERVICE_HOST": "10.96.0.9", "IDLEGATE_REDIS_PORT_6379_TCP": "tcp://10.96.0.9:6379"}
        checked = self.check(text, variables | services)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(self.check(text + "\n[nothing]\n", variables).returncode, 2)

    def test_idlegate_has_the_commands_that_the_manifests_call(self):
        told = subprocess.run([image.ROOT / "idlegate", "--help"], capture_output=True, text=True).stdout
        for command in [self.idlegate["args"][0], self.idlegate["lifecycle"]["preStop"]["exec"]["command"][1]]:
            self.assertIn(f"\n  {command} ", told)

    def test_they_are_those_of_the_repositorys_configuration(self):
        ours = tomllib.loads(self.objects["ConfigMap", "idlegate"]["data"]["proxy.toml"])
        shipped = tomllib.loads((image.REPOSITORY / "proxy.toml").read_text())
        for key in ["token", "cut", "deny", "keepalive"]:
            self.assertEqual(ours[key], shipped[key], key)
        for key, value in ours["idle"].items():
            self.assertEqual(value, shipped["idle"][key], key)

    def test_redis_is_found_by_the_name_of_its_service(self):
        url = tomllib.loads(self.objects["ConfigMap", "idlegate"]["data"]["proxy.toml"])["store"]["url"]
        (host, port) = re.fullmatch(r"redis://(.+):(\d+)/0", url).groups()
        (served,) = self.objects["Service", host]["spec"]["ports"]
        self.assertEqual(served["port"], int(port))


if __name__ == "__main__":
    unittest.main()
