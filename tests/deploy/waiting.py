"""Waiting for something to be so."""
import time


def eventually(what, condition, seconds=30):
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return found
