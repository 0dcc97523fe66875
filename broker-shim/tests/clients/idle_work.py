"""Gives a broker work of every kind, and leaves: what is idle afterwards has something to be idle about.

Many uploads, so that objects are joined; a topic that is compacted by key; a group with a member that leaves
and one that dies. With `--little` one record is written and read.
"""

import os
import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from smoke import Report, bootstrap, expect, until

ADDRESS = bootstrap()
LITTLE = "--little" in sys.argv
REPORT = Report("idle")
PARTITIONS, ROUNDS, RECORD = (1, 1, 100) if LITTLE else (4, 48, 256 << 10)


def create(what, partitions, **config):
    topic = REPORT.name(what)
    admin = AdminClient({"bootstrap.servers": ADDRESS})
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(30)
    until(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == partitions, topic)
    return topic


def produce(topic, rounds):
    """Each round is on its way before the next begins, and is in an upload before long."""
    errors = []
    producer = Producer({"bootstrap.servers": ADDRESS, "acks": "all", "linger.ms": 5})
    for number in rounds:
        for partition in range(PARTITIONS):
            for part in range(1 if LITTLE else 4):
                producer.produce(
                    topic, os.urandom(RECORD), key=f"k{number % 7}-{part}".encode(), partition=partition,
                    on_delivery=lambda error, _: error and errors.append(error),
                )
        expect(producer.flush(60), 0, "records left unsent")
    expect(errors, [], "delivery errors")


def member(group):
    return Consumer({
        "bootstrap.servers": ADDRESS, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
    })


def consume(topic, count):
    """Two members read everything and commit; the first leaves, the second is killed with this process."""
    group = REPORT.name("group")
    members, found = [member(group), member(group)], 0
    for one in members:
        one.subscribe([topic])

    def more():
        nonlocal found
        for one in members:
            messages = [message for message in one.consume(100, timeout=0.2) if not message.error()]
            found += len(messages)
            if messages:
                one.commit(asynchronous=False)
        return found >= count

    until(more, f"{count} records", seconds=120)
    members[0].close()


def work():
    topic = create("plain", PARTITIONS)
    keyed = create("keyed", PARTITIONS, **{
        "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "100",
    })
    produce(keyed, range(1 if LITTLE else 8))
    produce(topic, range(ROUNDS))
    consume(topic, ROUNDS * PARTITIONS * (1 if LITTLE else 4))


REPORT.check("work of every kind", work)
REPORT.finish()
