"""What must hold, judged by what clients saw and by which faults were made. What is lawful stands in docs/configuration.md
("What replicas promise together")."""
import collections
import datetime
import re
import time

from clients import PATIENCE
from fleet import GRACE, TIMEOUT

# Activity that a killed replica may not have told: min(5 s, timeout/100), and the second until its next report.
UNTOLD = min(5, TIMEOUT / 100) + 1.3
# Decided 2 s after the timeout at the latest, closed elsewhere 1 s later, and a second for the clients of this test.
LATE = 4
# How long a fleet needs after its faults are over: the grace of a replica that is gone, and the exchange after it.
SETTLED = GRACE + 4

LOSSES = ("flush", "empty", "evict", "failover")
# In these, a replica cannot report, though it serves.
UNREACHABLE = ("stop", "hole", "stall", "delay", "freeze", "pause", "crash", "empty", "failover", "full", "read-only", "reset")


class Faults:
    """When which fault was made: (begin, end, replica or None for the store or the fleet, kind)."""

    def __init__(self):
        self.all = []
        # How often an exception kept something from being judged: a run in which that is most proves little.
        self.waived = collections.Counter()

    def of_kind(self, kinds, begin, end, replica=None):
        """Those in force then; with a replica, only those that concern it."""
        return [
            fault
            for fault in self.all
            if fault[3] in kinds and fault[0] <= end and fault[1] >= begin and (replica is None or fault[2] in (replica, None))
        ]

    def restarted(self, replica, begin, end):
        return any(fault[2] == replica for fault in self.of_kind(("kill", "term"), begin, end))

    def tolerates(self, replica, at):
        """Whether the mode may let dead tokens pass there. A switch takes effect within a second, and so does its return."""
        return bool(self.of_kind(("observe", "off"), at - 2, at, replica))

    def made_all_forget(self, knowing, begin, end):
        """Whether the store lost data then, after (or while) every replica that knew was restarted: none could write it back."""
        for loss in self.of_kind(LOSSES, begin, end):
            if all(self.restarted(replica, begin, min(loss[1] + SETTLED, end)) for replica in knowing):
                return True
        return False

    def _silent_since(self, replica, at):
        """Since when, without a pause, it could not report: a report may lie in any gap longer than a report takes."""
        since = at
        while earlier := [fault[0] for fault in self.of_kind(UNREACHABLE, since - UNTOLD, since, replica) if fault[0] < since]:
            since = min(earlier)
        return since

    def died_untold(self, at, replica):
        """Whether the replica may have ended before it told anyone of what it saw then."""
        for begin, _, who, kind in self.all:
            # One that ends in order reports before, if the store can be reached.
            is_untold = kind == "kill" or kind == "term" and self.of_kind(UNREACHABLE, begin, begin + 1, replica)
            if who == replica and is_untold and self._silent_since(replica, begin) - UNTOLD <= at <= begin + 0.1:
                return True
        return False

    def is_lawfully_lost(self, at, replica):
        """Whether activity then, on this replica, need not count."""
        if self.died_untold(at, replica):
            return True
        for begin, end, who, kind in self.all:
            if who != replica:
                continue
            since = self._silent_since(replica, begin)
            # Silent for longer than the grace: it is struck off, and what it had not told does not count.
            if kind in UNREACHABLE and end - since > GRACE - 1 and since - UNTOLD <= at <= end + 1.5:
                return True
        return False


def _arrived(user, at, replica, faults):
    """Whether a pong, which nothing answers, surely arrived: its replica was well, and its WebSocket stayed open."""
    if faults.of_kind(("stop", "kill", "term"), at - 1, at + 1.5, replica):
        return False
    return not any(what in ("cut", "closed") and who == replica and at <= when <= at + 1.5 for when, what, who in user.events)


def violations(user, faults, deadline):
    """What is wrong with this history, in words. `deadline` is when the session had to be over, if it had."""
    found = []
    counted, dead_at, served, knowing = None, None, set(), {}
    for at, what, replica in sorted(user.events):
        is_activity = what == "sent" or (what == "pong" and _arrived(user, at, replica, faults))
        if is_activity and dead_at is None:
            if faults.is_lawfully_lost(at, replica):
                faults.waived["activity"] += 1
            else:
                counted = at
        if what in ("refused", "cut"):
            if dead_at is None:
                if counted is not None and at - counted < TIMEOUT:
                    found.append(f"early: {what} at replica {replica} {at - counted:.2f} s after activity")
                dead_at = at
            knowing[replica] = at
        if what in ("passed", "opened"):
            served.add(replica)
        if what in ("passed", "opened") and dead_at is not None and not faults.tolerates(replica, at):
            own = knowing.get(replica)
            told = own is not None and not faults.restarted(replica, own - 1, at)
            # What was let in before the end may be answered after it.
            if told and at <= own + PATIENCE:
                continue
            # It knows by itself, whatever becomes of the store. Others must have been able to hear of it.
            if not told and (at <= dead_at + LATE or faults.of_kind(UNREACHABLE + LOSSES + ("kill", "term"), at - LATE, at, replica)):
                faults.waived["dead token"] += 1
                continue
            if told or not faults.made_all_forget(set(knowing), dead_at - 1, at):
                found.append(f"revived: {what} at replica {replica} {at - dead_at:.2f} s after its token was refused")
            else:
                # Lawfully another session.
                dead_at, counted, knowing, user.began_again = None, at, {}, True
    if deadline is not None:
        found += _at_the_deadline(user, faults, deadline, dead_at)
    return found


def _at_the_deadline(user, faults, deadline, dead_at):
    found, passed = [], [at for at, what, _ in user.events if what == "passed"]
    first = min(at for at, _, _ in user.events)
    before = {replica for at, what, replica in user.events if at <= deadline and what in ("sent", "maybe", "pong")}
    sent = [(at, replica) for at, what, replica in user.events if what == "sent" and at <= deadline]
    if all(faults.died_untold(at, replica) for at, replica in sent):
        # Nothing of it is known to have been let in until then, or all that knew of it was killed: it may begin after the deadline.
        return found
    # What is forgotten begins again where the app still accepts it.
    if dead_at is None and passed and max(passed) > deadline:
        if faults.made_all_forget(before, first, deadline):
            # Lawfully another session, with an end of its own.
            faults.waived["late"], user.began_again = faults.waived["late"] + 1, True
        else:
            found.append(f"late: still alive {max(passed) - deadline + LATE:.2f} s after the timeout")
    if user.sockets:
        found.append(f"not cut: WebSockets are open at {sorted(user.sockets)} after the end")
    return found


def of_the_records(replicas, began_again):
    """Replicas that recorded different ends for one session. Those that lawfully began again have several."""
    ends = {}
    for replica in replicas:
        for record in replica.records():
            if record["event"] in ("cut", "end"):
                one = (record["last_activity"], record["now"])
                ends.setdefault(record["session"], {}).setdefault(one, set()).add(replica.number)
    found = []
    for session, each in ends.items():
        if backwards := [end for end in each if end[0] > end[1]]:
            found.append((session, f"divergent: an end before its last activity: {backwards}"))
        elif len(each) > 1 and session not in began_again:
            found.append((session, f"divergent: (last activity, end) by replicas: {each}"))
    return found, len(ends)


def story(user, faults, replicas):
    """The history in the order of time: what the client saw, the faults, and what the replicas logged."""
    begin, ahead = min(at for at, _, _ in user.events), time.time() - time.monotonic()
    finish = max(at for at, _, _ in user.events) + 2
    lines = [(at, f"client: {what} at replica {replica}") for at, what, replica in user.events]
    for first, last, who, kind in faults.all:
        if last >= begin - 5 and first <= finish:
            lines.append((first, f"fault: {kind} of {'the store or all' if who is None else who}, {last - first:.1f} s"))
    for replica in replicas:
        for line in replica.log_about(user.session):
            if stamp := re.match(r"\S+Z", line):
                at = datetime.datetime.fromisoformat(stamp[0][:-1] + "+00:00").timestamp() - ahead
                if begin - 5 <= at <= finish:
                    lines.append((at, f"log of {replica.number}: {line[stamp.end():].strip()}"))
    return "\n".join(f"  {at - begin:8.3f} {what}" for at, what in sorted(lines))
