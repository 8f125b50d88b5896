#!/usr/bin/env python3
"""A fleet under random faults, judged by what its clients saw.

    test_fleet.py IDLEGATE [SECONDS] [SEED]

Bursts of faults take turns with calm, in which every idle session must end. The oracle is also shown what is wrong, in doctored
histories and by real replicas, and must find it.
"""
import asyncio
import collections
import pathlib
import random
import shutil
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
            await self.injector.settle()
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
        # Sessions begin, and WebSockets open, before faults and in the midst of them.
        await asyncio.sleep(dice.uniform(0, 14))
        if weather.is_over:
            return
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
        # What is open after a deadline is for the oracle.
        if deadline is None:
            user.close()


def self_test():
    """The oracle notices what is wrong in doctored histories, and nothing in lawful ones."""

    class Told:
        sockets, session, began_again = {}, "", False

        def __init__(self, events):
            self.events = events

    faults = oracle.Faults()
    faults.all += [[500.0, 501.0, 0, "kill"], [600.0, 603.0, 1, "observe"], [700.0, 701.0, 0, "term"], [702.0, 702.1, None, "flush"]]
    cases = [
        ("early", [(100.0, "sent", 0), (100.1, "passed", 0), (103.0, "refused", 1)], None),
        ("early", [(100.0, "sent", 0), (104.0, "pong", 0), (108.0, "cut", 0)], None),
        ("revived", [(100.0, "sent", 0), (107.0, "refused", 0), (120.0, "passed", 1)], None),
        # It knew by itself, and a loss of the store's data is no excuse.
        ("revived", [(690.0, "sent", 1), (698.0, "refused", 1), (705.0, "passed", 1)], None),
        # A mode that is over is no excuse.
        ("revived", [(590.0, "sent", 0), (598.0, "refused", 0), (630.0, "passed", 1)], None),
        ("late", [(100.0, "sent", 0), (130.0, "passed", 0)], 110.0),
        ("", [(100.0, "maybe", 0), (130.0, "sent", 0), (130.1, "passed", 0)], 110.0),
        ("", [(100.0, "sent", 0), (107.0, "refused", 0)], 110.0),
        ("", [(499.8, "sent", 0), (502.0, "refused", 1)], None),
        ("", [(590.0, "sent", 0), (598.0, "refused", 0), (602.0, "passed", 1)], None),
        ("", [(690.0, "sent", 0), (699.0, "refused", 0), (712.0, "passed", 0)], None),
    ]
    for word, events, deadline in cases:
        found = oracle.violations(Told(events), faults, deadline)
        assert bool(found) == bool(word) and all(one.startswith(word) for one in found), (events, found)


async def prove(binary, folder, app):
    """Real replicas that are wrong are found: two with another timeout, and a mode that the oracle is not told of."""
    folder.mkdir()
    fleets, clean = [], oracle.Faults()
    try:
        for timeout in (TIMEOUT // 2, 4 * TIMEOUT):
            redis = Redis(folder / f"redis-{timeout}")
            await redis.start()
            replica = Replica(binary, folder / f"replica-{timeout}", app, redis, 0, timeout)
            fleets.append((redis, replica))
            await replica.start()
        short, long = fleets[0][1], fleets[1][1]
        hasty, slow = User("hasty", [short], random.Random(1)), User("slow", [long], random.Random(2))
        await hasty.request(short)
        await slow.open(long)
        deadline = time.monotonic() + TIMEOUT + oracle.LATE
        await asyncio.sleep(TIMEOUT - 0.7)
        await hasty.request(short)
        assert any("early" in one for one in oracle.violations(hasty, clean, None)), hasty.events
        assert await short.switch("off", False)
        await asyncio.sleep(oracle.LATE)
        await hasty.request(short)
        assert any("revived" in one for one in oracle.violations(hasty, clean, None)), hasty.events
        await asyncio.sleep(max(deadline + 0.2 - time.monotonic(), 0))
        await slow.request(long)
        found = oracle.violations(slow, clean, deadline)
        assert any("late" in one for one in found) and any("not cut" in one for one in found), (found, slow.events)
        slow.close()
        assert "log of" in oracle.story(hasty, clean, [short]), "the story lacks the replicas' log"
    finally:
        for redis, replica in fleets:
            end(redis.process, replica.process)


def end(*processes):
    for process in processes:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


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
        proof = asyncio.ensure_future(prove(binary, folder / "proof", app))
        users = [asyncio.ensure_future(user_after_user(number, fleet, weather, dice, done)) for number in range(USERS)]
        await weather.blow(time.monotonic() + seconds)
        await asyncio.wait_for(asyncio.gather(*users), 60)
        await proof
        wrong = judge(fleet, faults, done, injector, seed)
    finally:
        end(redis.process, stand_in.process, *(replica.process for replica in fleet))
    if wrong:
        print(f"seed {seed}: logs and records are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return wrong


def judge(fleet, faults, done, injector, seed):
    """Prints each violation with its history, and the numbers of the run. Returns how many violations there are."""
    found = [(user.session, one) for user, deadline, _ in done for one in oracle.violations(user, faults, deadline)]
    divergent, ends = oracle.of_the_records(fleet, {user.session for user, _, _ in done if user.began_again})
    found += divergent
    users, told = {user.session: user for user, _, _ in done}, set()
    for session, one in found:
        print(f"seed {seed}, {session}: {one}", file=sys.stderr)
        if session in users and session not in told and len(told) < 8:
            told.add(session)
            print(oracle.story(users[session], faults, fleet), file=sys.stderr)
    events = [(at, what, replica) for user, _, _ in done for at, what, replica in user.events]
    count = lambda word: sum(what == word for _, what, _ in events)
    in_mode = [
        deadline is not None
        for user, deadline, _ in done
        for at, what, replica in user.events
        if what == "opened" and faults.tolerates(replica, at)
    ]
    judged = sum(deadline is not None for _, deadline, _ in done)
    print(
        f"seed {seed}: {len(fleet)} replicas, {len(done)} sessions, {judged} judged at a deadline, {ends} ends, {count('refused')} refusals, "
        f"{count('cut')} cuts, {count('pong')} pongs, {count('opened')} WebSockets ({len(in_mode)} opened in off or observe, "
        f"{sum(in_mode)} of them judged at a deadline), waived {dict(faults.waived)}, "
        f"{sum(user.began_again for user, _, _ in done)} lawfully began again; faults {dict(sorted(injector.counts.items()))}: "
        f"{len(found)} violations {dict(collections.Counter(one.split(':')[0] for _, one in found))}"
    )
    assert judged > 5 and ends > 5 and count("refused") > 5, "too little happened to prove anything"
    return len(found)


def main():
    binary = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 600
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1_000_000)
    self_test()
    sys.exit(1 if asyncio.run(run(binary, seconds, seed)) else 0)


if __name__ == "__main__":
    main()
