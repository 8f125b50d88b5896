"""A cluster's network in one machine: this process's network namespace is the node with everybody on it but the Pods, each of
which has a namespace of its own. Run in a network namespace of its own, so that nothing of it is left behind."""
import subprocess

# Who there is beside the Pods. All of them are addresses of this namespace.
NODE, CLIENT, PROMETHEUS, NAMES, REDIS = (f"10.77.0.{number}" for number in (1, 2, 3, 4, 5))


def run(*command):
    subprocess.run(command, check=True)


def prepare():
    run("ip", "link", "set", "lo", "up")
    for address in (NODE, CLIENT, PROMETHEUS, NAMES, REDIS):
        run("ip", "address", "add", f"{address}/32", "dev", "lo")


class PodNetwork:
    """The namespace of one Pod, and the cable to it."""

    def __init__(self, address):
        self.address = address
        # It only keeps the namespace.
        self.keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.enter = ["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net"]
        outside = f"pod{address.rpartition('.')[2]}"
        while self._is_still_here():
            pass
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", str(self.keeper.pid))
        run("ip", "link", "set", outside, "up")
        run("ip", "route", "add", f"{address}/32", "dev", outside, "src", CLIENT)
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")

    def _is_still_here(self):
        ours, theirs = (subprocess.run(["readlink", f"/proc/{which}/ns/net"], capture_output=True).stdout
                        for which in ("self", self.keeper.pid))
        return ours == theirs

    def inside(self, *command, **more):
        return subprocess.run([*self.enter, *command], check=True, **more)

    def enforce(self, policy, namespaces):
        """A NetworkPolicy for ingress, as the node of a cluster enforces it: what no rule lets in is dropped, but for what
        the node itself sends. `namespaces` has the addresses by the namespace's name."""
        rules = ["iif lo accept", "ct state established,related accept", f"ip saddr {NODE} accept"]
        for rule in policy["spec"]["ingress"]:
            ports = ", ".join(str(port["port"]) for port in rule["ports"])
            sources = [
                namespaces[peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]]
                for peer in rule.get("from", [])
            ]
            source = f"ip saddr {{ {', '.join(sources)} }} " if "from" in rule else ""
            rules.append(f"{source}tcp dport {{ {ports} }} accept")
        lines = ["table inet pod {", "chain ingress {", "type filter hook input priority 0; policy drop;", *rules, "}", "}"]
        self.inside("nft", "-f", "-", input="\n".join(lines) + "\n", text=True)

    def close(self):
        self.keeper.kill()
        self.keeper.wait()
