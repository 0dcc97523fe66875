"""Kills the broker at random moments under load, and proves that nothing acknowledged was lost.

Producers with idempotence and acks=all write on through every kill; a group member reads and commits
beside them. At the end a fresh reader must find every acknowledged record at its offset, once, in
order, without a gap, and no committed offset and no high watermark may have gone back.

With --trim-cold the load stops before the last restart until the write-ahead log is trimmed, so that
the final read comes from objects in the bucket; the counters must say so.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker, Died
from history import History, judge

TOPIC = "kill-loop"
CLIENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "socket.timeout.ms": 10000, "log_level": 0}


class Load:
    """What all threads share."""

    def __init__(self, address, options):
        self.address = address
        self.options = options
        self.history = History()
        self.lock = threading.Lock()
        self.stop_writing = threading.Event()
        self.stop_reading = threading.Event()
        self.failures = []
        self.unknown = 0
        self.ack_times = []  # monotonic time of the latest acknowledgement to a writer, one cell

    def fail(self, what):
        with self.lock:
            self.failures.append(what)

    def acknowledged(self, error, message):
        with self.lock:
            if error is not None:
                # Neither written nor not written: the final read decides, once at most.
                self.unknown += 1
                self.failures.append(f"a record was given up although the producer had time: {error}")
                return
            self.history.acknowledge(message.partition(), message.offset(), message.value().decode().split("|")[0])
            if message.value().startswith(b"p"):
                self.ack_times[:] = [time.monotonic()]


def write(load, name):
    """A producer: keyed records, numbered in order, until told to stop."""
    producer = Producer({
        "bootstrap.servers": load.address, "enable.idempotence": True, "acks": "all", "linger.ms": 2,
        "delivery.timeout.ms": 240000, "retry.backoff.ms": 20, "retry.backoff.max.ms": 200, "queue.buffering.max.messages": 2000,
        "batch.num.messages": 50, "compression.type": "lz4" if name.endswith("0") else "none", **CLIENT,
    })
    padding = "|" + "x" * load.options.padding
    sequence = 0
    while not load.stop_writing.is_set() and not load.failures:
        key = sequence % 97
        try:
            producer.produce(TOPIC, value=f"{name}:{sequence}{padding}", key=f"{name}-{key}", partition=key % load.options.partitions, on_delivery=load.acknowledged)
            sequence += 1
        except BufferError:
            producer.poll(0.05)
        except KafkaException as why:
            load.fail(f"{name} cannot write any more: {why}")
            return
        producer.poll(0)
        if sequence % 20 == 0:
            time.sleep(20 / load.options.rate)
    left = producer.flush(120)  # seconds
    if left:
        load.fail(f"{name}: {left} records without an answer 120 s after the last kill")


def read_and_commit(load):
    """A group member that commits what it read, and asks what is committed."""
    member = Consumer({
        "bootstrap.servers": load.address, "group.id": "kill-loop", "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "session.timeout.ms": 10000, "heartbeat.interval.ms": 500, **CLIENT,
    })
    member.subscribe([TOPIC])
    next_commit = time.monotonic()
    while not load.stop_reading.is_set():
        for message in member.consume(500, timeout=0.1):
            if message.error() is None:
                with load.lock:
                    load.history.see(message.partition(), message.offset(), message.value().decode().split("|")[0])
        if time.monotonic() >= next_commit:
            commit_once(load, member)
            next_commit = time.monotonic() + 0.2
    member.close()


def commit_once(load, member):
    """Commits, then observes. While the broker is down either may fail: then nothing was observed."""
    try:
        for done in member.commit(asynchronous=False) or []:
            if done.error is None and done.offset >= 0:
                load.history.commit(done.partition, done.offset)
        for found in member.committed([TopicPartition(TOPIC, one) for one in range(load.options.partitions)], timeout=2):
            if found.error is None and found.offset >= 0:
                load.history.commit(found.partition, found.offset)
        for partition in range(load.options.partitions):
            _, high = member.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=2)
            load.history.watermark(partition, high)
    except KafkaException:
        pass


def create_topic(address, partitions):
    admin = AdminClient({"bootstrap.servers": address, **CLIENT})
    admin.create_topics([NewTopic(TOPIC, num_partitions=partitions, replication_factor=1)])[TOPIC].result(30)


def wait_ack(load, since, seconds=90):
    """The time of the first acknowledgement to a writer after `since`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if load.failures:
            raise Died("the load failed")
        if load.ack_times and load.ack_times[0] > since:
            return load.ack_times[0]
        time.sleep(0.002)
    raise Died(f"no acknowledgement within {seconds} s after the restart")


def new_client_ack(load, name):
    """The time of the first acknowledgement to a client that knows nothing of the kill. Clients that were connected
    wait for up to two seconds before they come back (librdkafka 2.16), whatever the broker does."""
    acknowledged = []

    def delivered(error, message):
        acknowledged.append(time.monotonic())
        load.acknowledged(error, message)

    producer = Producer({"bootstrap.servers": load.address, "acks": "all", "linger.ms": 0, "delivery.timeout.ms": 90000, **CLIENT})
    producer.produce(TOPIC, value=f"{name}:0|", partition=0, on_delivery=delivered)
    if producer.flush(90) or load.failures:
        raise Died("a new client gets no acknowledgement after the restart")
    return acknowledged[0]


def kill_once(broker, load, chance, times):
    """One kill and one restart; sometimes recovery is killed as well."""
    time.sleep(chance.uniform(0.05, load.options.life))
    broker.kill()
    killed = time.monotonic()
    while chance.random() < 0.2:
        broker.spawn()
        time.sleep(chance.uniform(0.0, 0.1))
        broker.kill()
        times["recoveries_killed"] += 1
    broker.start()
    ready = time.monotonic()
    new_client = new_client_ack(load, f"n{len(times['ready_ms'])}")
    first_ack = wait_ack(load, ready)
    times["ready_ms"].append((ready - killed) * 1000)
    times["new_client_ack_ms"].append((new_client - killed) * 1000)
    times["first_ack_ms"].append((first_ack - killed) * 1000)


def trim(broker):
    """Waits until everything durable is uploaded and trimmed from the write-ahead log."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        stats = broker.stats()
        if stats["wal_lsn_trimmed"] >= stats["wal_lsn_durable"] > 0:
            return
        time.sleep(0.2)
    raise Died(f"the write-ahead log is not trimmed within 120 s: trimmed {stats['wal_lsn_trimmed']}, durable {stats['wal_lsn_durable']}")


def read_all(address, partitions):
    """Everything, by a reader that knows nothing: partition -> [(offset, value)]."""
    reader = Consumer({"bootstrap.servers": address, "group.id": f"fresh-{uuid.uuid4().hex}", "enable.auto.commit": False, **CLIENT})
    ends = {one: reader.get_watermark_offsets(TopicPartition(TOPIC, one), timeout=30)[1] for one in range(partitions)}
    final = {one: [] for one in ends}
    reader.assign([TopicPartition(TOPIC, one, 0) for one in ends])
    deadline = time.monotonic() + 120
    while any(not done(final[one], end) for one, end in ends.items()):
        if time.monotonic() > deadline:
            missing = {one: (len(final[one]), end) for one, end in ends.items()}
            raise Died(f"the final read does not end within 120 s; (read, end) by partition: {missing}")
        for message in reader.consume(2000, timeout=0.2):
            if message.error() is not None:
                raise Died(f"the final read fails: {message.error()}")
            final[message.partition()].append((message.offset(), message.value().decode().split("|")[0]))
    reader.close()
    return final


def done(records, end):
    return end == 0 or (records and records[-1][0] >= end - 1)


def run(broker, options, summary):
    """The whole life: load, kills, final read. Returns the problems found."""
    chance = random.Random(options.seed)
    times = summary["times"] = {"ready_ms": [], "new_client_ack_ms": [], "first_ack_ms": [], "recoveries_killed": 0}
    broker.start()
    create_topic(broker.address, options.partitions)
    load = Load(broker.address, options)
    writers = [threading.Thread(target=write, args=(load, f"p{number}"), daemon=True) for number in range(options.producers)]
    reader = threading.Thread(target=read_and_commit, args=(load,), daemon=True)
    for thread in [*writers, reader]:
        thread.start()
    try:
        wait_ack(load, 0)
        for number in range(options.kills):
            kill_once(broker, load, chance, times)
            print(f"kill {number + 1}/{options.kills}: ready after {times['ready_ms'][-1]:.0f} ms, new client acknowledged after {times['new_client_ack_ms'][-1]:.0f} ms, the load after {times['first_ack_ms'][-1]:.0f} ms", flush=True)
        time.sleep(options.life)
    finally:
        load.stop_writing.set()
        for thread in writers:
            thread.join(150)
        # The member catches up a little and commits once more.
        time.sleep(1)
        load.stop_reading.set()
        reader.join(60)
        summary.update(acknowledged=len(load.history.acknowledged), read_live=len(load.history.seen_live), unknown=load.unknown,
                       commits_observed=sum(map(len, load.history.commits.values())))
    if load.failures:
        return load.failures[:5]
    return finish(broker, options, load, summary)


def finish(broker, options, load, summary):
    """The last restart, the fresh read, the verdict."""
    problems = []
    if options.trim_cold:
        trim(broker)
    # One more kill: the final read sees what recovery makes of the last acknowledgements.
    broker.kill()
    broker.start()
    before = broker.reads_from() if options.trim_cold else None
    final = read_all(broker.address, options.partitions)
    if options.trim_cold:
        after = broker.reads_from()
        summary["reads_from"] = {source: after[source] - before.get(source, 0) for source in after}
        if summary["reads_from"].get("bucket", 0) == 0:
            problems.append("the final read made no read from the bucket")
        if summary["reads_from"].get("tail", 0) > 0:
            problems.append(f"the final read was served {summary['reads_from']['tail']} times from the tail cache, although the log was trimmed and the caches were cold")
    summary["read_finally"] = sum(map(len, final.values()))
    problems += judge(load.history, final)
    if not load.history.acknowledged or not load.history.seen_live or not load.history.commits:
        problems.append("the run proves nothing: no record acknowledged, read or committed")
    broker.stop()
    return problems


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--bucket", choices=["file", "s3"], default="file", help="s3 takes AWS_… and TIDEWATER_TEST_S3_BUCKET")
    parser.add_argument("--trim-cold", action="store_true", help="read finally from objects, with the log trimmed and the caches cold")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=2000, help="records a second and producer")
    parser.add_argument("--padding", type=int, default=200, help="bytes added to each value")
    parser.add_argument("--life", type=float, default=2.0, help="seconds between restart and kill, at most")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the kills")
    parser.add_argument("--folder", help="work folder (default: a temporary one, removed on success)")
    parser.add_argument("--serve-argument", action="append", default=[], help="handed on to `tidewater serve`; may be repeated")
    parser.add_argument("--command", help="another broker's shell command, with --port: tries the check on Apache Kafka")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(2**32)
    return options


def spread(values):
    if not values:
        return None
    return {"median": round(statistics.median(values)), "max": round(max(values))}


def main():
    options = arguments()
    folder = options.folder or tempfile.mkdtemp(prefix="tidewater-kill-")
    bucket = None
    if options.bucket == "s3":
        bucket = f"s3://{os.environ['TIDEWATER_TEST_S3_BUCKET']}/kill-{uuid.uuid4().hex[:8]}"
    broker = Broker(folder, bucket=bucket, port=options.port, command=options.command, arguments=options.serve_argument)
    summary = {"check": "kill_loop", "seed": options.seed, "kills": options.kills, "bucket": options.bucket, "trim_cold": options.trim_cold}
    print(f"kill_loop seed={options.seed} folder={folder}", flush=True)
    try:
        problems = run(broker, options, summary)
    except (Died, KafkaException) as why:
        problems = [f"{type(why).__name__}: {why}"]
    alive = broker.is_alive()
    broker.kill()
    times = summary.pop("times", {"ready_ms": [], "new_client_ack_ms": [], "first_ack_ms": [], "recoveries_killed": 0})
    summary.update(ready_ms=spread(times["ready_ms"]), new_client_ack_ms=spread(times["new_client_ack_ms"]), first_ack_ms=spread(times["first_ack_ms"]), recoveries_killed=times["recoveries_killed"], problems=problems)
    for problem in problems:
        print(f"not ok - {problem}", flush=True)
    if problems:
        print(f"the broker {'lived' if alive else 'was dead'}; its last words: {broker.last_words()}; folder {folder}", flush=True)
    print(json.dumps(summary), flush=True)
    sys.stdout.flush()
    if not problems and not options.folder:
        shutil.rmtree(folder, ignore_errors=True)
    # Threads of the clients may hang on a dead broker; nothing of theirs is needed any more.
    os._exit(1 if problems else 0)


main()
