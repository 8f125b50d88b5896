"""Faults, each made, held and undone."""
import asyncio
import contextlib
import math
import signal
import time


class Injector:
    def __init__(self, replicas, redis, stand_in, faults, dice):
        self.replicas, self.redis, self.stand_in, self.faults, self.dice = replicas, redis, stand_in, faults, dice
        self.counts = {}
        self._deck, self._unsure = [], []
        self._store = asyncio.Lock()
        self._locks = [asyncio.Lock() for _ in replicas]

    async def one(self):
        """Some fault. Each kind comes once before any comes again."""
        if not self._deck:
            self._deck = [name for name in dir(self) if name.startswith("make_")]
            self.dice.shuffle(self._deck)
        kind = self._deck.pop()
        self.counts[kind[5:]] = self.counts.get(kind[5:], 0) + 1
        await getattr(self, kind)()

    @contextlib.asynccontextmanager
    async def _fault(self, kind, replica=None):
        """In force from before it is made until after it is undone."""
        fault = [time.monotonic(), math.inf, replica, kind]
        self.faults.all.append(fault)
        yield fault
        fault[1] = time.monotonic()

    def _some(self):
        return self.dice.randrange(len(self.replicas))

    async def make_kill(self):
        await self._restart("kill", signal.SIGKILL)

    async def make_term(self):
        await self._restart("term", signal.SIGTERM)

    async def _restart(self, kind, which):
        number = self._some()
        async with self._locks[number], self._fault(kind, number):
            await self.replicas[number].end(which)
            await asyncio.sleep(self.dice.uniform(0, 3))
            await self.replicas[number].start()

    async def make_stop(self):
        number = self._some()
        async with self._locks[number], self._fault("stop", number):
            self.replicas[number].signal(signal.SIGSTOP)
            await asyncio.sleep(self.dice.choice([0.5, 2, 3, 8]))
            self.replicas[number].signal(signal.SIGCONT)

    async def make_reload(self):
        number = self._some()
        # Until a new process has its handlers, SIGHUP ends it.
        async with self._locks[number], self._fault("reload", number):
            self.replicas[number].signal(signal.SIGHUP)

    async def make_reset(self):
        async with self._fault("reset"):
            for replica in self.replicas:
                replica.relay.reset()

    async def _relay(self, kind, change):
        number = self._some()
        async with self._locks[number], self._fault(kind, number):
            relay = self.replicas[number].relay
            change(relay)
            await asyncio.sleep(self.dice.uniform(0.3, 6))
            relay.repair()

    async def make_hole(self):
        await self._relay("hole", lambda relay: setattr(relay, "hole", True))

    async def make_stall(self):
        await self._relay("stall", lambda relay: setattr(relay, "stalled", True))

    async def make_delay(self):
        await self._relay("delay", lambda relay: setattr(relay, "delay", self.dice.uniform(0.02, 0.4)))

    async def _at_the_store(self, kind, seconds, do, undo):
        async with self._store, self._fault(kind):
            result = do()
            if asyncio.iscoroutine(result):
                await result
            await asyncio.sleep(seconds)
            result = undo()
            if asyncio.iscoroutine(result):
                await result

    async def make_flush(self):
        await self._at_the_store("flush", 0, lambda: self.redis.ask("FLUSHALL"), lambda: None)

    async def make_script_flush(self):
        await self._at_the_store("script flush", 0, lambda: self.redis.ask("SCRIPT", "FLUSH"), lambda: None)

    async def make_pause(self):
        await self._at_the_store("pause", 2.5, lambda: self.redis.ask("CLIENT", "PAUSE", "2000"), lambda: None)

    async def make_freeze(self):
        redis = self.redis
        stop = lambda: redis.process.send_signal(signal.SIGSTOP)
        await self._at_the_store("freeze", self.dice.uniform(0.5, 8), stop, lambda: redis.process.send_signal(signal.SIGCONT))

    async def make_out_of_memory(self):
        do = lambda: self.redis.ask("CONFIG", "SET", "maxmemory", "1")
        await self._at_the_store("full", self.dice.uniform(1, 4), do, lambda: self.redis.ask("CONFIG", "SET", "maxmemory", "0"))

    async def make_read_only(self):
        do = lambda: self.redis.ask("CONFIG", "SET", "min-replicas-to-write", "5")
        undo = lambda: self.redis.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        await self._at_the_store("read-only", self.dice.uniform(1, 4), do, undo)

    async def make_crash_with_aof(self):
        await self._at_the_store("crash", self.dice.uniform(0, 3), lambda: self.redis.kill(), lambda: self.redis.start())

    async def make_empty_restart(self):
        async def start():
            self.redis.forget()
            await self.redis.start()

        await self._at_the_store("empty", self.dice.uniform(0, 3), lambda: self.redis.kill(), start)

    async def make_eviction(self):
        async def evict():
            keys = (await self.redis.ask("KEYS", "idlegate:*")).split()
            # Any key may be evicted, but few at a time.
            for key in self.dice.sample(keys, min(len(keys), 1 + len(keys) // 4)):
                await self.redis.ask("DEL", key)

        await self._at_the_store("evict", 0, evict, lambda: None)

    async def make_failover(self):
        async def promote():
            await self.stand_in.ask("REPLICAOF", "NO", "ONE")
            self.redis, self.stand_in = self.stand_in, self.redis
            for replica in self.replicas:
                replica.relay.lead_to(("127.0.0.1", self.redis.port))
            await self.stand_in.ask("REPLICAOF", "127.0.0.1", str(self.redis.port))

        # What was written in the last moments is lost.
        await self._at_the_store("failover", 0.5, promote, lambda: None)

    async def _mode(self, mode, fleet):
        number = self._some()
        async with self._fault(mode, None if fleet else number) as fault:
            is_sure = await self._switch(number, mode, fleet)
            await asyncio.sleep(self.dice.uniform(0.5, 5))
            is_sure &= await self._switch(number, "enforce", fleet)
        if not is_sure:
            # What was not answered may be done later, also after the switch back: in force until all is settled.
            fault[1] = math.inf
            self._unsure.append(fault)

    async def _switch(self, number, mode, fleet):
        # Not while it is stopped: what waits for a stopped replica is done in any order when it continues.
        async with self._locks[number]:
            return await self.replicas[number].switch(mode, fleet)

    async def settle(self):
        """After the faults of a burst: all replicas enforce again, and so does the fleet."""
        for number in range(len(self.replicas)):
            for fleet in (False, True):
                while not await self._switch(number, "enforce", fleet):
                    await asyncio.sleep(0.3)
        for fault in self._unsure:
            fault[1] = time.monotonic()
        self._unsure = []

    async def make_observe_here(self):
        await self._mode("observe", False)

    async def make_off_here(self):
        await self._mode("off", False)

    async def make_observe_everywhere(self):
        await self._mode("observe", True)

    async def make_off_everywhere(self):
        await self._mode("off", True)
