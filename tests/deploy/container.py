"""Becomes a program in a container: what a runtime does with an image, without one.

    unshare --mount python container.py '{"root": …, "at": …, "mounts": {…}, "command": […], "environment": {…}, "user": …}'

The root filesystem is read-only and the program's whole world, but for what every runtime adds: a few devices, and what is
mounted. It runs as that user, without a capability and without a way to get one. The process stays the same.
"""
import ctypes
import json
import os
import shutil
import subprocess
import sys

DEVICES = ["null", "zero", "full", "random", "urandom"]
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def bind(source, target, *, writable):
    """A target that is not there is made, as runtimes do."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "wb").close()
    mount("--bind", source, target)
    if not writable:
        mount("-o", "remount,bind,ro", target)


def lay_out(spec):
    """The root as the container sees it, in this process's mount namespace alone."""
    root = spec["at"]
    mount("-t", "tmpfs", "-o", "mode=0755", "container", root)
    shutil.copytree(spec["root"], root, dirs_exist_ok=True)
    for device in DEVICES:
        bind(f"/dev/{device}", f"{root}/dev/{device}", writable=True)
    for target, (source, writable) in spec["mounts"].items():
        bind(source, root + target, writable=writable)
    mount("-o", "remount,ro", root)
    return root


def become(user):
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    capability = 0
    while prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    mount("--make-rprivate", "/")
    os.chroot(lay_out(spec))
    os.chdir("/")
    become(spec["user"])
    os.execve(spec["command"][0], spec["command"], spec["environment"])
