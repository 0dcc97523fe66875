"""Smoke check with aiokafka."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from smoke import CODECS, Report, bootstrap, expect, until_async

ADDRESS = bootstrap()
REPORT = Report("aiokafka")


async def with_admin(action):
    admin = AIOKafkaAdminClient(bootstrap_servers=ADDRESS)
    await admin.start()
    try:
        return await action(admin)
    finally:
        await admin.close()


async def create(what, partitions=1):
    topic = REPORT.name(what)

    async def action(admin):
        await admin.create_topics([NewTopic(topic, partitions, 1)])

        async def seen():
            found = await admin.describe_topics([topic])
            return found[0]["error_code"] == 0 and len(found[0]["partitions"]) == partitions

        await until_async(seen, f"{topic} has {partitions} partitions")

    await with_admin(action)
    return topic


async def produce(topic, records, **config):
    """Sends records (dicts of send() arguments) and returns their offsets."""
    producer = AIOKafkaProducer(bootstrap_servers=ADDRESS, acks="all", **config)
    await producer.start()
    try:
        sent = [await producer.send(topic, **record) for record in records]
        return [(await one).offset for one in sent]
    finally:
        await producer.stop()


async def consumer(group=None, topics=()):
    member = AIOKafkaConsumer(
        *topics, bootstrap_servers=ADDRESS, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        session_timeout_ms=10000, heartbeat_interval_ms=500, metadata_max_age_ms=2000,
    )
    await member.start()
    return member


async def read(member, count):
    found = []

    async def more():
        for messages in (await member.getmany(timeout_ms=500, max_records=count - len(found))).values():
            found.extend(messages)
        return len(found) >= count

    await until_async(more, f"{count} records")
    return found


async def read_topic(topic, count):
    """Reads partition 0 from the start without a group."""
    member = await consumer()
    member.assign([TopicPartition(topic, 0)])
    await member.seek_to_beginning()
    try:
        return await read(member, count)
    finally:
        await member.stop()


async def create_topic():
    await create("create", partitions=3)


async def codec(name):
    topic = await create(name)
    values = [f"{name} {index} ".encode() * 20 for index in range(200)]
    offsets = await produce(topic, [{"value": value} for value in values], compression_type=None if name == "none" else name, linger_ms=20)
    expect(offsets, list(range(200)), "acknowledged offsets")
    expect([message.value for message in await read_topic(topic, 200)], values, "values")


async def idempotent():
    topic = await create("idempotent")
    values = [str(index).encode() for index in range(200)]
    await produce(topic, [{"value": value} for value in values], enable_idempotence=True)
    expect([message.value for message in await read_topic(topic, 200)], values, "values")


async def headers():
    topic = await create("headers")
    sent = (("a", b"1"), ("a", b"2"), ("empty", b""))
    await produce(topic, [{"value": b"v", "headers": list(sent)}])
    expect(tuple((await read_topic(topic, 1))[0].headers), sent, "headers")


async def nulls():
    topic = await create("nulls")
    await produce(topic, [{"value": b"v"}, {"key": b"k", "value": None}, {"key": b"", "value": b""}])
    found = [(message.key, message.value) for message in await read_topic(topic, 3)]
    expect(found, [(None, b"v"), (b"k", None), (b"", b"")], "keys and values")


async def times():
    topic = await create("times")
    partition = TopicPartition(topic, 0)
    base = int(time.time() * 1000) - 60_000
    await produce(topic, [{"value": b"v", "timestamp_ms": base + 1000 * step} for step in range(3)])
    member = await consumer()
    try:
        expect((await member.beginning_offsets([partition]))[partition], 0, "earliest offset")
        expect((await member.end_offsets([partition]))[partition], 3, "latest offset")
        found = (await member.offsets_for_times({partition: base + 500}))[partition]
        expect((found.offset, found.timestamp), (1, base + 1000), "offset and timestamp between timestamps")
        expect((await member.offsets_for_times({partition: base + 5000}))[partition], None, "offset past the last timestamp")
    finally:
        await member.stop()


async def two_members():
    topic, group = await create("rebalance", partitions=4), REPORT.name("rebalance")
    owned = lambda member: sorted(partition.partition for partition in member.assignment())
    first = await consumer(group, [topic])
    second = None

    async def polled(condition):
        for member in (first, second):
            if member is not None:
                await member.getmany(timeout_ms=100)
        return condition()

    await until_async(lambda: polled(lambda: owned(first) == [0, 1, 2, 3]), "the first member owns all")
    # start() of the second ends only once the first has joined again, so both run at the same time.
    starting = asyncio.ensure_future(consumer(group, [topic]))
    await until_async(lambda: polled(starting.done), "the second member joins")
    second = await starting
    await until_async(lambda: polled(lambda: len(owned(first)) == 2 and len(owned(second)) == 2), "each member owns two")
    expect(sorted(owned(first) + owned(second)), [0, 1, 2, 3], "partitions of both")
    await produce(topic, [{"value": str(index).encode(), "partition": index % 4} for index in range(40)])
    found = []

    async def collect():
        for member in (first, second):
            for messages in (await member.getmany(timeout_ms=100)).values():
                found.extend(int(message.value) for message in messages)
        return len(found) >= 40

    await until_async(collect, "both members read everything")
    expect(sorted(found), list(range(40)), "records of both")
    await second.stop()
    second = None
    await until_async(lambda: polled(lambda: owned(first) == [0, 1, 2, 3]), "the member that stays owns all")
    await first.stop()


async def resume():
    topic, group = await create("resume"), REPORT.name("resume")
    partition = TopicPartition(topic, 0)
    await produce(topic, [{"value": str(index).encode()} for index in range(10)])
    first = await consumer(group, [topic])
    expect([message.offset for message in await read(first, 4)], [0, 1, 2, 3], "offsets before the commit")
    await first.commit({partition: 4})
    await first.stop()
    second = await consumer(group, [topic])
    expect(await second.committed(partition), 4, "committed offset")
    expect([message.offset for message in await read(second, 6)], [4, 5, 6, 7, 8, 9], "offsets after the restart")
    await second.stop()


async def delete_topic():
    topic = await create("delete")

    async def action(admin):
        await admin.delete_topics([topic])

        async def gone():
            return topic not in await admin.list_topics()

        await until_async(gone, "the topic is gone")

    await with_admin(action)


async def main():
    await REPORT.check_async("create topic", create_topic)
    for name in CODECS:
        await REPORT.check_async(f"produce and consume with codec {name}", lambda name=name: codec(name))
    await REPORT.check_async("idempotent producer", idempotent)
    await REPORT.check_async("headers", headers)
    await REPORT.check_async("null keys and null values", nulls)
    await REPORT.check_async("list offsets by time", times)
    await REPORT.check_async("group of two rebalances", two_members)
    await REPORT.check_async("commit and resume", resume)
    await REPORT.check_async("delete topic", delete_topic)
    REPORT.finish()


asyncio.run(main())
