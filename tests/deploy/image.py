"""The image: its root filesystem as deploy/rootfs built it, run as deploy/Dockerfile says."""
import atexit
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parent.parent
ROOT = pathlib.Path(os.environ["TEST_ROOTFS"]).resolve()


def _settings():
    """What the last stage of the Dockerfile says, by instruction."""
    settings = {}
    for line in (REPOSITORY / "deploy/Dockerfile").read_text().replace("\\\n", " ").splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            settings = {"base": rest}
        elif instruction and not instruction.startswith("#"):
            settings[instruction] = rest
    return settings


SETTINGS = _settings()
USER = int(SETTINGS["USER"].split(":")[0])
ENTRYPOINT = json.loads(SETTINGS["ENTRYPOINT"])
ENVIRONMENT = dict(word.split("=", 1) for word in shlex.split(SETTINGS["ENV"]))


def start(arguments, *, mounts, environment=None, user=USER, enter=(), root=ROOT, **streams):
    """Runs the image's program with these arguments, in a container of its own. `mounts` has (source, writable) by target;
    `enter` is a command that enters namespaces first; `root` is the root filesystem."""
    at = tempfile.mkdtemp()
    # Outside the container's namespace it stays empty.
    atexit.register(os.rmdir, at)
    spec = {
        "root": str(root),
        "at": at,
        "mounts": {target: (str(source), writable) for target, (source, writable) in mounts.items()},
        "command": ENTRYPOINT + list(arguments),
        "environment": ENVIRONMENT | (environment or {}),
        "user": user,
    }
    command = [*enter, "unshare", "--mount", sys.executable, str(HERE / "container.py"), json.dumps(spec)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)
