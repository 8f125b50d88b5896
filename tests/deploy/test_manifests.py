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
import time
import tomllib
import unittest

import kubernetes_validate
import yaml

import image
from manifests import FOLDER, container, environment, pod_of, render

# From the first that knows `sleep` and has sidecars switched on to the last that the validator knows.
VERSIONS = ["1.30", "1.33", "1.37"]

SIDECAR = ("Deployment", "classroom")


def edited(edit, example="example"):
    """Renders the example after `edit` has changed a copy of the folder."""
    with tempfile.TemporaryDirectory() as folder:
        copied = pathlib.Path(folder) / "kubernetes"
        shutil.copytree(FOLDER, copied)
        edit(copied)
        return render(copied / example)


def replaced(file, old, new):
    text = file.read_text()
    assert old in text, f"{old!r} is not in {file}:\n{text}"
    file.write_text(text.replace(old, new))


def admitted(objects, pod):
    """The ports that NetworkPolicies let clients from anywhere come to, as they add up for this Pod; "all" for every one."""
    ports, labels = set(), pod["metadata"]["labels"].items()
    for (kind, _), document in objects.items():
        if kind == "NetworkPolicy" and document["spec"]["podSelector"]["matchLabels"].items() <= labels:
            for rule in document["spec"]["ingress"]:
                if "from" not in rule:
                    ports |= {port["port"] for port in rule["ports"]} if "ports" in rule else {"all"}
    return ports


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
            for example in ("example", "example-library", "example-both", "redis"):
                for name, document in render(FOLDER / example).items():
                    with self.subTest(version=version, example=example, object=name):
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
        self.assertEqual(volume["configMap"], {"name": "idlegate-classroom"})
        self.assertEqual(list(self.objects["ConfigMap", "idlegate-classroom"]["data"]), ["proxy.toml"])
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
        policy = self.objects["NetworkPolicy", "idlegate-classroom"]["spec"]
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
        config = tomllib.loads(self.objects["ConfigMap", "idlegate-classroom"]["data"]["proxy.toml"])
        # The default of `grace_period`, where the file says nothing else.
        grace = int(config.get("grace_period", "10s").removesuffix("s"))
        sleep = self.app["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreater(sleep, grace, "WebSockets are told before the app ends")
        for_the_app = pod_of(self.app_alone[SIDECAR])["spec"].get("terminationGracePeriodSeconds", 30)
        self.assertGreaterEqual(self.pod["spec"]["terminationGracePeriodSeconds"], sleep + for_the_app + grace)

    def test_an_app_with_a_lifecycle_of_its_own_is_noticed_and_told_what_to_use(self):
        def with_lifecycle(folder):
            old = "          readinessProbe:"
            replaced(folder / "example/app/deployment.yaml", old, "          lifecycle: { preStop: { exec: { command: [x] } } }\n" + old)

        told = "the-app-has-a-lifecycle-of-its-own--use-own-lifecycle-in-place-of-component"
        with self.assertRaisesRegex(ValueError, told):
            edited(with_lifecycle)
        # And so it is: what is told is there to be used.
        self.assertTrue((FOLDER / "own-lifecycle/kustomization.yaml").exists())

        def with_what_is_told(folder):
            with_lifecycle(folder)
            replaced(folder / "example/kustomization.yaml", "../component", "../own-lifecycle")

        app = container(pod_of(edited(with_what_is_told)[SIDECAR]), "classroom")
        self.assertEqual(app["lifecycle"], {"preStop": {"exec": {"command": ["x"]}}})

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
        def elsewhere(folder):
            replaced(folder / "example/classroom/kustomization.yaml", 'idlegate/port: "10086"', 'idlegate/port: "8000"')
            replaced(folder / "example/classroom/kustomization.yaml", 'idlegate/app-port: "10087"', 'idlegate/app-port: "8123"')
            for name in ("deployment", "service"):
                file = folder / f"example/app/{name}.yaml"
                file.write_text(file.read_text().replace("10086", "8000"))

        rendered = edited(elsewhere)
        pod = pod_of(rendered[SIDECAR])
        ours = environment(container(pod, "idlegate"))
        self.assertEqual(ours["IDLEGATE_LISTEN"], "0.0.0.0:8000")
        self.assertEqual(ours["IDLEGATE_UPSTREAM"], "http://127.0.0.1:8123")
        self.assertEqual(environment(container(pod, "classroom"))["PORT"], "8123")
        self.assertEqual(rendered["Service", "classroom"]["spec"]["ports"][0]["targetPort"], 8000)
        self.assertEqual(admitted(rendered, pod), {8000})
        self.assertNotRegex(yaml.safe_dump_all(rendered.values()), "1008[67]")

    def test_without_ipv4_it_is_as_the_guide_says(self):
        def without_ipv4(folder):
            for name in ("sidecar.yaml", "ports.yaml"):
                file = folder / "sidecar" / name
                file.write_text(file.read_text().replace("0.0.0.0", "[::]").replace("index: 1 }", "index: 3 }"))

        ours = environment(container(pod_of(edited(without_ipv4)[SIDECAR]), "idlegate"))
        self.assertEqual((ours["IDLEGATE_LISTEN"], ours["IDLEGATE_HEALTH_LISTEN"]), ("[::]:10086", "[::]:9091"))


class KeptPort(unittest.TestCase):
    """example-library: an app that keeps its port, and has a lifecycle of its own."""

    NAME = ("Deployment", "library")

    @classmethod
    def setUpClass(cls):
        cls.objects = render(FOLDER / "example-library")
        cls.app_alone = render(FOLDER / "example-library/app")
        cls.pod = pod_of(cls.objects[cls.NAME])
        cls.app = container(cls.pod, "web")
        (cls.before,) = pod_of(cls.app_alone[cls.NAME])["spec"]["containers"]

    def test_the_app_is_what_it_was_but_for_its_end(self):
        self.assertEqual(self.pod["spec"]["containers"], [self.app])
        self.assertEqual(self.app | {"lifecycle": self.before["lifecycle"]}, self.before)
        self.assertEqual(self.app["lifecycle"]["postStart"], self.before["lifecycle"]["postStart"])

    def test_clients_come_to_idlegate_and_not_to_the_app(self):
        (port,) = self.app["ports"]
        ours = environment(container(self.pod, "idlegate"))
        self.assertEqual(ours["IDLEGATE_UPSTREAM"], f"http://127.0.0.1:{port['containerPort']}")
        (service,) = self.objects["Service", "library"]["spec"]["ports"]
        self.assertEqual(ours["IDLEGATE_LISTEN"], f"0.0.0.0:{service['targetPort']}")
        self.assertNotEqual(service["targetPort"], port["containerPort"])
        self.assertEqual(admitted(self.objects, self.pod), {service["targetPort"]})

    def test_its_end_does_what_it_did_and_takes_longer_than_idlegate(self):
        (command,) = self.before["lifecycle"]["preStop"]["exec"]["command"]
        shell, dash_c, script = self.app["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual((shell, dash_c), ("sh", "-c"))
        (seconds,) = re.findall(r"\bsleep (\d+)\b", script)
        self.assertGreater(int(seconds), 10, "the default of grace_period")
        # In a shell: what it did is done, and the rest is waited for.
        with tempfile.TemporaryDirectory() as folder:
            save = pathlib.Path(folder) / "save"
            save.write_text(f"#!/bin/sh\necho saved >{folder}/done\n")
            save.chmod(0o755)
            quicker = script.replace(command, str(save)).replace(f"sleep {seconds}", "sleep 0.4")
            begun = time.monotonic()
            subprocess.run(["sh", "-c", quicker], check=True)
            self.assertGreaterEqual(time.monotonic() - begun, 0.4)
            self.assertEqual((pathlib.Path(folder) / "done").read_text(), "saved\n")

    def test_until_all_pods_have_idlegate_clients_come_to_the_app(self):
        def first_rollout(folder):
            replaced(folder / "example-library/kustomization.yaml", "  # - ../first-rollout", "  - ../first-rollout")

        rendered = edited(first_rollout, "example-library")
        service = rendered["Service", "library"]
        self.assertEqual(service, self.app_alone["Service", "library"], "Pods of before and of after have it there")
        self.assertIn("all", admitted(rendered, pod_of(rendered[self.NAME])))
        self.assertEqual(rendered[self.NAME], self.objects[self.NAME], "no second rollout")
        extra = ("NetworkPolicy", "idlegate-first-rollout")
        self.assertEqual(rendered.keys() - self.objects.keys(), {extra})
        for version in VERSIONS:
            kubernetes_validate.validate(rendered[extra], version, strict=True)
        guide = (image.REPOSITORY / "deploy/README.md").read_text()
        self.assertIn("kubectl delete networkpolicy idlegate-first-rollout", guide, "no apply takes it away")

    def test_without_the_components_it_is_the_app_as_it_was(self):
        def without(folder):
            file = folder / "example-library/kustomization.yaml"
            kustomization = yaml.safe_load(file.read_text())
            del kustomization["components"]
            file.write_text(yaml.safe_dump(kustomization))

        self.assertEqual(edited(without, "example-library"), self.app_alone)


class TwoApps(unittest.TestCase):
    """example-both: in one namespace, without a name changed by hand."""

    @classmethod
    def setUpClass(cls):
        cls.objects = render(FOLDER / "example-both")

    def test_each_is_what_it_is_alone(self):
        self.assertEqual(self.objects, render(FOLDER / "example") | render(FOLDER / "example-library"))

    def test_each_policy_is_about_the_pods_of_one_app(self):
        for name, port in (("classroom", 10086), ("library", 8001)):
            pod = pod_of(self.objects["Deployment", name])
            self.assertEqual(admitted(self.objects, pod), {port})
            (volume,) = [volume for volume in pod["spec"]["volumes"] if "configMap" in volume]
            self.assertIn(("ConfigMap", volume["configMap"]["name"]), self.objects)
            # Redis lets both in.
            (rule,) = self.objects["NetworkPolicy", "idlegate-redis"]["spec"]["ingress"]
            (peer,) = rule["from"]
            self.assertLessEqual(peer["podSelector"]["matchLabels"].items(), pod["metadata"]["labels"].items())

    def test_one_redis_keeps_them_apart(self):
        stores = []
        for name in ("classroom", "library"):
            stores.append(tomllib.loads(self.objects["ConfigMap", f"idlegate-{name}"]["data"]["proxy.toml"])["store"])
        self.assertEqual(stores[0]["url"], stores[1]["url"])
        self.assertEqual(len({store.get("prefix", "idlegate") for store in stores}), 2)


class Monitoring(Rendered):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.monitoring = render(FOLDER / "monitoring")

    def test_the_rules_are_those_of_the_alerts(self):
        script = FOLDER / "monitoring/generate"
        made = subprocess.run([script], capture_output=True, text=True, check=True).stdout
        self.assertEqual((FOLDER / "monitoring/prometheusrule.yaml").read_text(), made, f"run {script} again")
        alerts = yaml.safe_load((image.REPOSITORY / "deploy/alerts.yaml").read_text())
        self.assertEqual(self.monitoring["PrometheusRule", "idlegate"]["spec"], alerts)
        self.assertGreater(len(alerts["groups"][0]["rules"]), 10)
        self.assertEqual(self.monitoring["PrometheusRule", "idlegate"]["apiVersion"], "monitoring.coreos.com/v1")

    def test_the_monitor_finds_the_metrics_of_each_pod_with_idlegate(self):
        monitor = self.monitoring["PodMonitor", "idlegate"]
        self.assertEqual(monitor["apiVersion"], "monitoring.coreos.com/v1")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for example, name in (("example", "classroom"), ("example-library", "library")):
            pod = pod_of(render(FOLDER / example)["Deployment", name])
            self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), pod["metadata"]["labels"].items())
            ports = {port["name"]: port["containerPort"] for port in container(pod, "idlegate")["ports"]}
            self.assertEqual(str(ports[endpoint["port"]]), pod["metadata"]["annotations"]["prometheus.io/port"])
            self.assertEqual(endpoint["path"], pod["metadata"]["annotations"]["prometheus.io/path"])

    def test_it_is_added_by_one_line(self):
        def with_monitoring(folder):
            replaced(folder / "example/kustomization.yaml", "  - ../redis\n", "  - ../redis\n  - ../monitoring\n")

        self.assertEqual(edited(with_monitoring), self.objects | self.monitoring)

    def test_it_gets_the_label_that_a_prometheus_selects_by(self):
        def labelled(folder):
            with (folder / "monitoring/kustomization.yaml").open("a") as file:
                file.write("labels: [{ pairs: { release: stack } }]\n")

        rendered = edited(labelled, "monitoring")
        self.assertEqual({each["metadata"]["labels"]["release"] for each in rendered.values()}, {"stack"})
        for (kind, name), each in rendered.items():
            self.assertEqual(each["spec"], self.monitoring[kind, name]["spec"])


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
        text = self.objects["ConfigMap", "idlegate-classroom"]["data"]["proxy.toml"]
        variables = environment(self.idlegate)
        checked = self.check(text, variables)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(json.loads(checked.stdout)["listen"], "0.0.0.0:10086")
        # What a cluster sets in every Pod for the Service of Redis.
        services = {"IDLEGATE_REDIS_SERVICE_HOST": "10.96.0.9", "IDLEGATE_REDIS_PORT_6379_TCP": "tcp://10.96.0.9:6379"}
        checked = self.check(text, variables | services)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(self.check(text + "\n[nothing]\n", variables).returncode, 2)
        library = render(FOLDER / "example-library")
        variables = environment(container(pod_of(library["Deployment", "library"]), "idlegate"))
        checked = self.check(library["ConfigMap", "idlegate-library"]["data"]["proxy.toml"], variables)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(json.loads(checked.stdout)["listen"], "0.0.0.0:8001")

    def test_a_store_that_replicas_do_not_share_is_warned_of(self):
        """No manifest can tell idlegate how many replicas there are: in a Pod, it says so whenever it matters."""
        text = self.objects["ConfigMap", "idlegate-classroom"]["data"]["proxy.toml"]
        in_a_pod = environment(self.idlegate) | {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        warning = "each replica counts idle time by itself"
        self.assertNotIn(warning, self.check(text, in_a_pod).stdout)
        alone = text.replace('url = "redis://idlegate-redis:6379/0"', 'url = "memory"')
        self.assertIn(warning, self.check(alone, in_a_pod).stdout)
        self.assertNotIn(warning, self.check(alone, environment(self.idlegate)).stdout)

    def test_idlegate_has_the_commands_that_the_manifests_call(self):
        told = subprocess.run([image.ROOT / "idlegate", "--help"], capture_output=True, text=True).stdout
        for command in [self.idlegate["args"][0], self.idlegate["lifecycle"]["preStop"]["exec"]["command"][1]]:
            self.assertIn(f"\n  {command} ", told)

    def test_they_are_those_of_the_repositorys_configuration(self):
        ours = tomllib.loads(self.objects["ConfigMap", "idlegate-classroom"]["data"]["proxy.toml"])
        shipped = tomllib.loads((image.REPOSITORY / "proxy.toml").read_text())
        for key in ["token", "cut", "deny", "keepalive"]:
            self.assertEqual(ours[key], shipped[key], key)
        for key, value in ours["idle"].items():
            self.assertEqual(value, shipped["idle"][key], key)

    def test_redis_is_found_by_the_name_of_its_service(self):
        url = tomllib.loads(self.objects["ConfigMap", "idlegate-classroom"]["data"]["proxy.toml"])["store"]["url"]
        (host, port) = re.fullmatch(r"redis://(.+):(\d+)/0", url).groups()
        (served,) = self.objects["Service", host]["spec"]["ports"]
        self.assertEqual(served["port"], int(port))


if __name__ == "__main__":
    unittest.main()
