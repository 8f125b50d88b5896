"""What must hold, judged by what clients saw and by which faults were made. What is lawful stands in docs/configuration.md
("What replicas promise together")."""
from fleet import GRACE, TIMEOUT

# Activity that a killed replica may not have told: min(5 s, timeout/100), and the second until its next report.
UNTOLD = min(5, TIMEOUT / 100) + 1.3
# Decided 2 s after the timeout at the latest, closed elsewhere 1 s later, and a second for the clients of this test.
LATE = 4
# How long a fleet needs after its faults are over: the grace of a replica that is gone, and the exchange after it.
SETTLED = GRACE + 4


class Faults:
    """When which fault was made: (begin, end, replica or None for the store, kind)."""

    def __init__(self):
        self.all = []

    def on(self, replica, begin, end):
        """Those of a replica, or of the store, that were in force then."""
        return [fault for fault in self.all if fault[2] in (replica, None) and fault[0] <= end and fault[1] >= begin]

    def of_kind(self, kinds, begin, end):
        return [fault for fault in self.all if fault[3] in kinds and fault[0] <= end and fault[1] >= begin]

    def made_all_forget(self, served, begin, end):
        """Whether the store lost data then, and every replica that knew the session was restarted: none is left that knows it."""
        lost = self.of_kind(("flush", "empty", "evict", "failover"), begin, end)
        restarted = {fault[2] for fault in self.of_kind(("kill", "term"), begin, end)}
        return bool(lost) and served <= restarted

    def untold_since(self, replica, end):
        """Since when a replica may not have told its activity at `end`: it tells nothing while it or the store is in trouble."""
        since = end - UNTOLD
        while troubles := [fault[0] for fault in self.on(replica, since, end) if fault[0] - UNTOLD < since]:
            since = min(troubles) - UNTOLD
        return since

    def is_lawfully_lost(self, at, replica):
        """Whether activity then, on this replica, need not count."""
        for begin, end, who, kind in self.all:
            # Silent for longer than the grace: it is struck off, and what it had not told does not count.
            silent = kind in ("stop", "hole", "stall") and end - begin > GRACE - 1
            lost_until = {"kill": begin + 0.1}.get(kind, end + 1.5 if silent else None)
            if who == replica and lost_until is not None and self.untold_since(replica, begin) <= at <= lost_until:
                return True
        return False


def violations(user, faults, deadline):
    """What is wrong with this history, in words. `deadline` is when the session had to be over, if it had."""
    found = []
    counted, dead_at, served = None, None, set()
    off = lambda begin, end: faults.of_kind(("observe", "off"), begin, end)
    for at, what, replica in sorted(user.events):
        if what == "sent" and not faults.is_lawfully_lost(at, replica):
            counted = at
        if what in ("refused", "cut"):
            if counted is not None and at - counted < TIMEOUT and dead_at is None:
                found.append(f"early: {what} at replica {replica} {at - counted:.2f} s after activity")
            if dead_at is None:
                dead_at = at
        if what in ("passed", "opened", "refused"):
            served.add(replica)
        if what in ("passed", "opened") and dead_at is not None and at > dead_at + LATE:
            if faults.on(replica, at - LATE, at) or off(dead_at, at):
                continue
            if faults.made_all_forget(served - {replica}, dead_at - 1, at):
                continue
            found.append(f"revived: {what} at replica {replica} {at - dead_at:.2f} s after its token was refused")
    if deadline is not None:
        last = [at for at, what, _ in user.events if what in ("refused", "passed")]
        first, before = min(at for at, _, _ in user.events), {replica for at, _, replica in user.events if at <= deadline}
        # What is forgotten begins again where the app still accepts it.
        forgotten = faults.made_all_forget(before, first, deadline)
        if dead_at is None and last and max(last) > deadline and not forgotten:
            found.append(f"late: still alive {max(last) - deadline + LATE:.2f} s after the timeout")
        if user.sockets:
            found.append(f"not cut: {len(user.sockets)} WebSockets are open after the end")
    return found


def of_the_records(replicas):
    """Replicas that recorded different ends for one session."""
    ends = {}
    for replica in replicas:
        for record in replica.records():
            if record["event"] in ("cut", "end"):
                ends.setdefault(record["session"], {}).setdefault((record["last_activity"], record["now"]), []).append(replica.number)
    return [f"divergent: {session} has the ends {found}" for session, found in ends.items() if len(found) > 1], len(ends)


def story(user, faults, replicas):
    """The history in the order of time, for an engineer."""
    begin = min(at for at, _, _ in user.events)
    lines = [(at, f"replica {replica}: {what}") for at, what, replica in user.events]
    for first, last, who, kind in faults.all:
        if last >= begin - 5:
            lines.append((first, f"fault: {kind} of {'the store' if who is None else who}, {last - first:.1f} s"))
    told = [f"    {replica.number}: {line}" for replica in replicas for line in replica.log_about(user.session)[-40:]]
    return "\n".join([f"  {at - begin:8.3f} {what}" for at, what in sorted(lines)] + told)
