"""Smoke check with kafka-python."""

import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewTopic

from smoke import CODECS, Report, bootstrap, expect, until

ADDRESS = bootstrap()
REPORT = Report("kafka-python")
ADMIN = KafkaAdminClient(bootstrap_servers=ADDRESS)


def create(what, partitions=1):
    topic = REPORT.name(what)
    ADMIN.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=1)])
    until(lambda: len(partitions_of(topic)) == partitions, f"{topic} has {partitions} partitions")
    return topic


def partitions_of(topic):
    found = ADMIN.describe_topics([topic])[0]
    return [] if found["error_code"] else [one for one in found["partitions"] if not one["error_code"]]


def produce(topic, records, **config):
    """Sends records (dicts of send() arguments) and returns their offsets."""
    producer = KafkaProducer(bootstrap_servers=ADDRESS, acks="all", **config)
    sent = [producer.send(topic, **record) for record in records]
    producer.flush(30)
    offsets = [one.get(30).offset for one in sent]
    producer.close()
    return offsets


def consumer(group=None, topics=()):
    member = KafkaConsumer(
        bootstrap_servers=ADDRESS, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        session_timeout_ms=10000, heartbeat_interval_ms=500, metadata_max_age_ms=2000,
    )
    join(member, topics)
    return member


def join(member, topics):
    """Subscribes a member that knows its topics: kafka-python 3.0 keeps an empty assignment for ever when their
    metadata arrive between its first assignment and its note of what it was based on, on Apache Kafka too."""
    for topic in topics:
        until(lambda topic=topic: member.partitions_for_topic(topic), f"the partitions of {topic}")
    if topics:
        member.subscribe(topics)


def read(member, count):
    found = []

    def more():
        for messages in member.poll(timeout_ms=500, max_records=count - len(found)).values():
            found.extend(messages)
        return len(found) >= count

    until(more, f"{count} records")
    return found


def read_topic(topic, count):
    """Reads partition 0 from the start without a group."""
    member = consumer()
    member.assign([TopicPartition(topic, 0)])
    member.seek_to_beginning()
    try:
        return read(member, count)
    finally:
        member.close()


def create_topic():
    topic = create("create", partitions=3)
    expect(len(partitions_of(topic)), 3, "partitions")


def codec(name):
    topic = create(name)
    values = [f"{name} {index} ".encode() * 20 for index in range(200)]
    compression = None if name == "none" else name
    offsets = produce(topic, [{"value": value, "key": b"k"} for value in values], compression_type=compression, linger_ms=20)
    expect(offsets, list(range(200)), "acknowledged offsets")
    expect([message.value for message in read_topic(topic, 200)], values, "values")


def headers():
    topic = create("headers")
    sent = [("a", b"1"), ("a", b"2"), ("empty", b"")]
    produce(topic, [{"value": b"v", "headers": sent}])
    expect([tuple(header) for header in read_topic(topic, 1)[0].headers], sent, "headers")


def nulls():
    topic = create("nulls")
    produce(topic, [{"value": b"v"}, {"key": b"k", "value": None}, {"key": b"", "value": b""}])
    found = [(message.key, message.value) for message in read_topic(topic, 3)]
    expect(found, [(None, b"v"), (b"k", None), (b"", b"")], "keys and values")


def times():
    topic = create("times")
    partition = TopicPartition(topic, 0)
    base = int(time.time() * 1000) - 60_000
    for step in range(3):
        produce(topic, [{"value": b"v", "timestamp_ms": base + 1000 * step}])
    member = consumer()
    expect(member.beginning_offsets([partition])[partition], 0, "earliest offset")
    expect(member.end_offsets([partition])[partition], 3, "latest offset")
    found = member.offsets_for_times({partition: base + 500})[partition]
    expect((found.offset, found.timestamp), (1, base + 1000), "offset and timestamp between timestamps")
    expect(member.offsets_for_times({partition: base + 5000})[partition], None, "offset past the last timestamp")
    member.close()


class Member(threading.Thread):
    """A group member in a thread of its own, as applications run it. With short polls of two members in one
    thread each keeps giving up the other's rebalance, on Apache Kafka too."""

    def __init__(self, group, topic):
        super().__init__(daemon=True)
        self.group, self.topic = group, topic
        self.stopping = threading.Event()
        self.owned, self.found, self.failure = [], [], None
        self.start()

    def run(self):
        try:
            member = consumer(self.group, [self.topic])
            while not self.stopping.is_set():
                for messages in member.poll(timeout_ms=1000).values():
                    self.found.extend(int(message.value) for message in messages)
                self.owned = sorted(partition.partition for partition in member.assignment())
            member.close()
        except Exception as why:  # told by whoever waits for this member
            self.failure = why

    def leave(self):
        self.stopping.set()
        self.join(30)


def two_members():
    topic, group = create("rebalance", partitions=4), REPORT.name("rebalance")
    members = [Member(group, topic)]

    def wait_for(condition, what):
        until(lambda: condition() or any(member.failure for member in members), what)
        expect([member.failure for member in members], [None] * len(members), "failures of members")

    wait_for(lambda: members[0].owned == [0, 1, 2, 3], "the first member owns all")
    members.append(Member(group, topic))
    first, second = members
    wait_for(lambda: len(first.owned) == 2 and len(second.owned) == 2, "each member owns two")
    expect(sorted(first.owned + second.owned), [0, 1, 2, 3], "partitions of both")
    produce(topic, [{"value": str(index).encode(), "partition": index % 4} for index in range(40)])
    wait_for(lambda: len(first.found) + len(second.found) >= 40, "both members read everything")
    expect(sorted(first.found + second.found), list(range(40)), "records of both")
    second.leave()
    wait_for(lambda: first.owned == [0, 1, 2, 3], "the member that stays owns all")
    first.leave()


def resume():
    topic, group = create("resume"), REPORT.name("resume")
    partition = TopicPartition(topic, 0)
    produce(topic, [{"value": str(index).encode()} for index in range(10)])
    first = consumer(group, [topic])
    expect([message.offset for message in read(first, 4)], [0, 1, 2, 3], "offsets before the commit")
    first.commit({partition: OffsetAndMetadata(4, "", -1)})
    first.close()
    second = consumer(group, [topic])
    expect(second.committed(partition), 4, "committed offset")
    expect([message.offset for message in read(second, 6)], [4, 5, 6, 7, 8, 9], "offsets after the restart")
    second.close()


def delete_topic():
    topic = create("delete")
    ADMIN.delete_topics([topic])
    until(lambda: topic not in ADMIN.list_topics(), "the topic is gone")


def main():
    REPORT.check("create topic", create_topic)
    for name in CODECS:
        REPORT.check(f"produce and consume with codec {name}", lambda name=name: codec(name))
    REPORT.check("headers", headers)
    REPORT.check("null keys and null values", nulls)
    REPORT.check("list offsets by time", times)
    REPORT.check("group of two rebalances", two_members)
    REPORT.check("commit and resume", resume)
    REPORT.check("delete topic", delete_topic)
    REPORT.finish()


main()
