"""What `kubectl apply -k` would send, as kubectl renders it."""
import os
import subprocess

import yaml

from image import REPOSITORY

FOLDER = REPOSITORY / "deploy/kubernetes"


def render(folder):
    """All objects of a kustomization, by kind and name."""
    kubectl = [os.environ["TEST_KUBECTL"], "kustomize", str(folder)]
    rendered = subprocess.run(kubectl, capture_output=True, text=True)
    if rendered.returncode != 0:
        raise ValueError(rendered.stderr)
    objects = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    named = {(document["kind"], document["metadata"]["name"]): document for document in objects}
    assert len(named) == len(objects), "two objects of one kind and name"
    return named


def pod_of(deployment):
    return deployment["spec"]["template"]


def container(pod, name):
    (found,) = [each for each in pod["spec"].get("initContainers", []) + pod["spec"]["containers"] if each["name"] == name]
    return found


def environment(container):
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}
