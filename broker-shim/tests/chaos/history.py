"""Judges what a run saw: pure, no broker, no client.

Owns: the rules an honest log keeps.
Does not own: how a history is recorded (kill_loop.py).

A value is unique: "producer:sequence". Each producer numbers its records per partition and gives
them in order, so order per partition and producer is order of sequence.
"""

PROBLEMS_MAX = 20


class History:
    """What producers, readers and the group saw, per partition."""

    def __init__(self):
        self.acknowledged = {}  # (partition, offset) -> value
        self.acknowledged_twice = []  # what a second report said of the same place
        self.seen_live = {}  # (partition, offset) -> value, by a reader during the run
        self.live_changes = []  # (partition, offset, first, second)
        self.commits = {}  # partition -> [committed offset, in the order observed]
        self.watermarks = {}  # partition -> [high watermark, in the order observed]

    def acknowledge(self, partition, offset, value):
        place = (partition, offset)
        if place in self.acknowledged and self.acknowledged[place] != value:
            self.acknowledged_twice.append((place, self.acknowledged[place], value))
        self.acknowledged[place] = value

    def see(self, partition, offset, value):
        place = (partition, offset)
        if self.seen_live.setdefault(place, value) != value:
            self.live_changes.append((place, self.seen_live[place], value))

    def commit(self, partition, offset):
        self.commits.setdefault(partition, []).append(offset)

    def watermark(self, partition, offset):
        self.watermarks.setdefault(partition, []).append(offset)


def judge(history, final):
    """`final` is what a fresh reader got: partition -> [(offset, value)]. Returns the problems found."""
    problems = []
    problems += [f"{place} was acknowledged for {first} and for {second}" for place, first, second in history.acknowledged_twice]
    problems += [f"{place} was read as {first} and later as {second}" for place, first, second in history.live_changes]
    for partition, records in sorted(final.items()):
        problems += _whole(partition, records)
        problems += _ordered(partition, records)
    problems += _once(final)
    problems += _kept("acknowledged", history.acknowledged, final)
    problems += _kept("served to a reader", history.seen_live, final)
    problems += _never_back("committed offset", history.commits)
    problems += _never_back("high watermark", history.watermarks)
    return problems[:PROBLEMS_MAX]


def _whole(partition, records):
    """Offsets run from 0 without a gap."""
    for expected, (offset, _) in enumerate(records):
        if offset != expected:
            return [f"partition {partition}: offset {expected} expected, {offset} found"]
    return []


def _ordered(partition, records):
    """Sequences ascend per producer."""
    last = {}
    for offset, value in records:
        producer, sequence = value.split(":")[:2]
        if int(sequence) <= last.get(producer, -1):
            return [f"partition {partition} offset {offset}: {producer} wrote {sequence} after {last[producer]}"]
        last[producer] = int(sequence)
    return []


def _once(final):
    places = {}
    problems = []
    for partition, records in sorted(final.items()):
        for offset, value in records:
            if value in places:
                problems.append(f"{value} stands at {places[value]} and at {(partition, offset)}")
            places[value] = (partition, offset)
    return problems


def _kept(what, places, final):
    found = {(partition, offset): value for partition, records in final.items() for offset, value in records}
    problems = []
    for place, value in sorted(places.items()):
        if place not in found:
            problems.append(f"{value} was {what} at {place} and is gone")
        elif found[place] != value:
            problems.append(f"{value} was {what} at {place}, where {found[place]} stands now")
    return problems


def _never_back(what, by_partition):
    problems = []
    for partition, observed in sorted(by_partition.items()):
        for before, after in zip(observed, observed[1:]):
            if after < before:
                problems.append(f"partition {partition}: the {what} went back from {before} to {after}")
    return problems
