"""Smoke check with confluent-kafka (librdkafka)."""

import os
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from smoke import CODECS, Report, bootstrap, expect, until

ADDRESS = bootstrap()
REPORT = Report("confluent")
ADMIN = AdminClient({"bootstrap.servers": ADDRESS})


def create(what, partitions=1, **config):
    topic = REPORT.name(what)
    wanted = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    ADMIN.create_topics([wanted])[topic].result(30)
    until(lambda: len(partitions_of(topic)) == partitions, f"{topic} has {partitions} partitions")
    return topic


def partitions_of(topic):
    found = ADMIN.list_topics(topic, timeout=10).topics[topic]
    return {} if found.error else found.partitions


def produce(topic, records, **config):
    """Sends records (dicts of produce() arguments) and returns what was acknowledged."""
    acknowledged, errors = [], []

    def delivered(error, message):
        (errors if error else acknowledged).append(error or message)

    producer = Producer({"bootstrap.servers": ADDRESS, "acks": "all", **config})
    for record in records:
        producer.produce(topic, on_delivery=delivered, **record)
    expect(producer.flush(30), 0, "records left unsent")
    expect(errors, [], "delivery errors")
    return acknowledged


def consumer(group, **config):
    return Consumer({
        "bootstrap.servers": ADDRESS, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 10000, "heartbeat.interval.ms": 500, **config,
    })


def read(member, count):
    found = []

    def more():
        for message in member.consume(count - len(found), timeout=0.5):
            if message.error():
                raise AssertionError(message.error())
            found.append(message)
        return len(found) >= count

    until(more, f"{count} records")
    return found


def read_topic(topic, count):
    """Reads partition 0 from the start without a group."""
    member = consumer(REPORT.name("reader"))
    member.assign([TopicPartition(topic, 0, 0)])
    try:
        return read(member, count)
    finally:
        member.close()


def create_topic():
    topic = create("create", partitions=3)
    expect(sorted(partitions_of(topic)), [0, 1, 2], "partitions")


def codec(name):
    topic = create(name)
    values = [f"{name} {index} ".encode() * 20 for index in range(200)]
    acknowledged = produce(topic, [{"value": value, "key": b"k"} for value in values], **{"compression.type": name, "linger.ms": 20})
    expect([message.offset() for message in acknowledged], list(range(200)), "acknowledged offsets")
    expect([message.value() for message in read_topic(topic, 200)], values, "values")


def idempotent():
    topic = create("idempotent")
    records = [{"value": str(index).encode()} for index in range(500)]
    produce(topic, records, **{"enable.idempotence": True, "batch.num.messages": 10})
    expect([message.value() for message in read_topic(topic, 500)], [record["value"] for record in records], "values")


def headers():
    topic = create("headers")
    sent = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]
    produce(topic, [{"value": b"v", "headers": sent}])
    expect(read_topic(topic, 1)[0].headers(), sent, "headers")


def nulls():
    topic = create("nulls")
    produce(topic, [{"key": None, "value": b"v"}, {"key": b"k", "value": None}, {"key": b"", "value": b""}])
    found = [(message.key(), message.value()) for message in read_topic(topic, 3)]
    expect(found, [(None, b"v"), (b"k", None), (b"", b"")], "keys and values")


def times():
    topic = create("times")
    base = int(time.time() * 1000) - 60_000
    for step in range(3):
        produce(topic, [{"value": b"v", "timestamp": base + 1000 * step}])
    expect(listed(topic, OffsetSpec.earliest()), 0, "earliest offset")
    expect(listed(topic, OffsetSpec.latest()), 3, "latest offset")
    expect(listed(topic, OffsetSpec.max_timestamp()), 2, "offset of the maximum timestamp")
    expect(listed(topic, OffsetSpec.for_timestamp(base)), 0, "offset at the first timestamp")
    expect(listed(topic, OffsetSpec.for_timestamp(base + 500)), 1, "offset between timestamps")
    expect(listed(topic, OffsetSpec.for_timestamp(base + 5000)), -1, "offset past the last timestamp")
    member = consumer(REPORT.name("times"))
    expect(member.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (0, 3), "watermarks")
    member.close()


def listed(topic, spec):
    partition = TopicPartition(topic, 0)
    return ADMIN.list_offsets({partition: spec}, request_timeout=10)[partition].result(15).offset


def two_members():
    topic, group = create("rebalance", partitions=4), REPORT.name("rebalance")
    first, second = consumer(group), consumer(group)
    owned = lambda member: sorted(partition.partition for partition in member.assignment())

    def polled(condition):
        first.poll(0.1)
        if second is not None:
            second.poll(0.1)
        return condition()

    first.subscribe([topic])
    until(lambda: first.poll(0.1) or owned(first) == [0, 1, 2, 3], "the first member owns all")
    second.subscribe([topic])
    until(lambda: polled(lambda: len(owned(first)) == 2 and len(owned(second)) == 2), "each member owns two")
    expect(sorted(owned(first) + owned(second)), [0, 1, 2, 3], "partitions of both")
    produce(topic, [{"value": str(index).encode(), "partition": index % 4} for index in range(40)])
    found = []

    def collect():
        for member in (first, second):
            message = member.poll(0.05)
            if message is not None and not message.error():
                found.append(int(message.value()))
        return len(found) >= 40

    until(collect, "both members read everything")
    expect(sorted(found), list(range(40)), "records of both")
    second.close()
    second = None
    until(lambda: polled(lambda: owned(first) == [0, 1, 2, 3]), "the member that stays owns all")
    first.close()


def resume():
    topic, group = create("resume"), REPORT.name("resume")
    produce(topic, [{"value": str(index).encode()} for index in range(10)])
    first = consumer(group)
    first.subscribe([topic])
    expect([message.offset() for message in read(first, 4)], [0, 1, 2, 3], "offsets before the commit")
    first.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    first.close()
    second = consumer(group)
    expect(second.committed([TopicPartition(topic, 0)], timeout=10)[0].offset, 4, "committed offset")
    second.subscribe([topic])
    expect([message.offset() for message in read(second, 6)], [4, 5, 6, 7, 8, 9], "offsets after the restart")
    second.close()


def compacted():
    """Of each key the newest record stays, at its offset; a reader passes the holes."""
    topic = create("compacted", **{
        "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "100",
        "delete.retention.ms": "3600000",
    })
    records = [{"key": f"k{index % 10}".encode(), "value": str(index).encode()} for index in range(400)]
    records.append({"key": b"k3", "value": None})
    for first in range(0, len(records), 100):
        produce(topic, records[first:first + 100])
    # The newest of all is never compacted, whatever its key.
    produce(topic, [{"key": b"last", "value": b"1"}])
    # A broker may keep what is new for its readers as it came: other records take that room.
    produce(create("other"), [{"value": os.urandom(900_000)} for _ in range(80)])
    newest = {record["key"]: (offset, record["value"]) for offset, record in enumerate(records)}
    newest[b"last"] = (401, b"1")
    until(lambda: kept(topic) == newest, "each key has its newest record alone", seconds=120)
    expect(listed(topic, OffsetSpec.latest()), 402, "latest offset")
    # It goes on behind the holes.
    expect([message.offset() for message in produce(topic, [{"key": b"last", "value": b"2"}])], [402], "offset")


def kept(topic):
    """What a new reader finds up to the end, by key; `None` if a key shows twice."""
    end, found = listed(topic, OffsetSpec.latest()), []
    member = consumer(REPORT.name("kept"))
    member.assign([TopicPartition(topic, 0, 0)])
    try:
        until(lambda: found.extend(member.consume(500, timeout=0.5)) or (found and found[-1].offset() == end - 1), "the end")
    finally:
        member.close()
    offsets = [message.offset() for message in found]
    expect(offsets, sorted(set(offsets)), "offsets in order")
    by_key = {message.key(): (message.offset(), message.value()) for message in found}
    return by_key if len(by_key) == len(found) else None


def delete_topic():
    topic = create("delete")
    ADMIN.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in ADMIN.list_topics(timeout=10).topics, "the topic is gone")


def main():
    REPORT.check("create topic", create_topic)
    for name in CODECS:
        REPORT.check(f"produce and consume with codec {name}", lambda name=name: codec(name))
    REPORT.check("idempotent producer", idempotent)
    REPORT.check("headers", headers)
    REPORT.check("null keys and null values", nulls)
    REPORT.check("list offsets by time", times)
    REPORT.check("group of two rebalances", two_members)
    REPORT.check("commit and resume", resume)
    REPORT.check("a compacted topic keeps the newest of each key", compacted)
    REPORT.check("delete topic", delete_topic)
    REPORT.finish()


main()
