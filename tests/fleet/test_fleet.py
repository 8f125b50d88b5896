#!/usr/bin/env python3
"""A fleet under random faults, judged by what its clients saw.

    test_fleet.py IDLEGATE [SECONDS] [SEED]

Bursts of faults take turns with calm, in which every idle session must end. First the oracle is shown histories that are wrong.
"""
import asyncio
import pathlib
import random
import sys
import tempfile
import time

from clients import User
from faults import Injector
from fleet import TIMEOUT, Redis, Replica, start_app
import oracle

USERS = 40


class Weather:
    """Bursts of faults, and calm between them."""

    def __init__(self, injector, dice):
        self.injector, self.dice, self.calm_since = injector, dice, time.monotonic()
        self.is_over = False

    async def blow(self, until):
        while time.monotonic() < until:
            self.calm_since = None
            burst = self.dice.uniform(4, 15)
            begun, running = time.monotonic(), []
            while time.monotonic() < begun + burst:
                running.append(asyncio.ensure_future(self.injector.one()))
                await asyncio.sleep(self.dice.uniform(0.3, 4))
            await asyncio.gather(*running)
            self.calm_since = time.monotonic()
            await asyncio.sleep(oracle.SETTLED + TIMEOUT + oracle.LATE + 4)
        self.is_over = True

    def deadline(self, last):
        """When a session that was last active then must be over, if it is calm until then."""
        if self.calm_since is None:
            return None
        return max(last, self.calm_since + oracle.SETTLED) + TIMEOUT + oracle.LATE


async def user_after_user(first, fleet, weather, dice, done):
    number = first
    while not weather.is_over:
        user = User(number, fleet, random.Random(dice.getrandbits(64)))
        number += USERS
        deadline = None

        async def until_calm(last):
            nonlocal deadline
            while not weather.is_over:
                deadline = weather.deadline(last)
                if deadline is not None and time.monotonic() > deadline:
                    return
                await asyncio.sleep(0.1)
            deadline = None

        refused = await user.live(until_calm)
        await asyncio.sleep(0.2)
        done.append((user, deadline, refused))
        judged = list(user.sockets)
        if deadline is None:
            user.close()
        await asyncio.sleep(0)
        del judged


def self_test():
    """The oracle notices what it must."""

    class Told:
        sockets, session = {}, ""

        def __init__(self, events):
            self.events = events

    faults = oracle.Faults()
    faults.all.append([500.0, 501.0, 0, "kill"])
    early = [(100.0, "sent", 0), (100.1, "passed", 0), (103.0, "refused", 1)]
    revived = [(100.0, "sent", 0), (107.0, "refused", 0), (120.0, "passed", 1)]
    late = [(100.0, "sent", 0), (130.0, "passed", 0)]
    lawful = [(499.8, "sent", 0), (502.0, "refused", 1)]
    for events, deadline, word in [(early, None, "early"), (revived, None, "revived"), (late, 110.0, "late"), (lawful, None, "")]:
        found = oracle.violations(Told(events), faults, deadline)
        assert bool(found) == bool(word) and all(one.startswith(word) for one in found), (events, found)


async def run(binary, seconds, seed):
    dice = random.Random(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="idlegate-fleet-"))
    app, redis, stand_in = start_app(), Redis(folder / "redis"), Redis(folder / "stand-in")
    fleet = []
    try:
        await redis.start()
        await stand_in.start("--replicaof", "127.0.0.1", str(redis.port))
        fleet.extend(Replica(binary, folder / f"replica-{number}", app, redis, number) for number in range(dice.choice([3, 4, 5])))
        for replica in fleet:
            await replica.start()
        faults, done = oracle.Faults(), []
        injector = Injector(fleet, redis, stand_in, faults, random.Random(dice.getrandbits(64)))
        weather = Weather(injector, random.Random(dice.getrandbits(64)))
        users = [asyncio.ensure_future(user_after_user(number, fleet, weather, dice, done)) for number in range(USERS)]
        await weather.blow(time.monotonic() + seconds)
        await asyncio.wait_for(asyncio.gather(*users), 60)
        wrong = 0
        for user, deadline, _ in done:
            for found in oracle.violations(user, faults, deadline):
                wrong += 1
                if wrong <= 5:
                    print(f"seed {seed}, {user.session}: {found}\n{oracle.story(user, faults, fleet)}", file=sys.stderr)
        divergent, ends = oracle.of_the_records(fleet)
        for found in divergent[:5]:
            print(f"seed {seed}: {found}", file=sys.stderr)
        judged = sum(deadline is not None for _, deadline, _ in done)
        refusals = sum(what == "refused" for user, _, _ in done for _, what, _ in user.events)
        print(
            f"seed {seed}: {len(fleet)} replicas, {len(done)} sessions, {judged} judged at a deadline, {ends} ends, {refusals} refusals, "
            f"faults {injector.counts}: {wrong + len(divergent)} violations"
        )
        assert judged > 5 and ends > 5, "too little happened to prove anything"
        return wrong + len(divergent)
    finally:
        for process in [redis.process, stand_in.process, *(replica.process for replica in fleet)]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def main():
    binary = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 600
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1_000_000)
    self_test()
    sys.exit(1 if asyncio.run(run(binary, seconds, seed)) else 0)


if __name__ == "__main__":
    main()
