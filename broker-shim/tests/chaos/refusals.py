"""The broker refuses what it must refuse, says why, and changes nothing; and it survives a full disk.

Each refusal: the exit code of docs/operations.md, a last line on standard error that says what and
where, and a data directory that is the same, byte for byte, before and after. Needs root: one check
mounts a read-only file system, one a small one.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients"))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import walfile
from broker import Broker
from smoke import Report, expect, until

REPORT = Report("refusals", seconds_max=600)
WORK = tempfile.mkdtemp(prefix="tidewater-refusals-")
TOPIC = "refusals"
RECORDS = 40
ENVIRONMENT, FOREIGN, DAMAGE = 3, 4, 5
REFUSAL_SECONDS_MAX = 30
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 100}
MOUNTS = []
# The answers to a produce request that every client tries again.
RETRIABLE = {"KAFKA_STORAGE_ERROR", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND"}


def folder(name):
    path = os.path.join(WORK, name)
    os.makedirs(path, exist_ok=True)
    return path


def wal_of(data_dir):
    return os.path.join(data_dir, "wal", "device.wal")


def copy(source, name):
    """A copy of a data directory that may be broken."""
    target = os.path.join(folder(name), "data")
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True, timeout=60)
    return target


def listing(path):
    """Everything below `path`: name -> mode, size and checksum."""
    found = {}
    for where, folders, files in os.walk(path):
        for name in folders + files:
            full = os.path.join(where, name)
            is_file = name in files
            found[os.path.relpath(full, path)] = (os.lstat(full).st_mode, os.lstat(full).st_size if is_file else None, checksum(full) if is_file else None)
    return found


def checksum(path):
    sum_ = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            sum_.update(piece)
    return sum_.hexdigest()


def changes(before, after):
    """What differs between two listings, by name. A half-written object that a dead writer left in the bucket's
    .tmp is nobody's data: it may be swept when the bucket is opened, but none may come."""
    differ = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    return sorted(name for name in differ if not (name.startswith("bucket/.tmp/") and name not in after))


def produce(address, values):
    """One record a request, so that the log has many groups. Returns the offsets."""
    offsets = []
    producer = Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 0, "message.timeout.ms": 20000, **QUIET})

    def delivered(error, message):
        if error is not None:
            raise KafkaException(error)
        offsets.append(message.offset())

    for value in values:
        producer.produce(TOPIC, value, partition=0, on_delivery=delivered)
        expect(producer.flush(30), 0, "records left unsent")
    return offsets


def read(address, count):
    reader = Consumer({"bootstrap.servers": address, "group.id": "refusals", "enable.auto.commit": False, **QUIET})
    reader.assign([TopicPartition(TOPIC, 0, 0)])
    found = []

    def more():
        found.extend(message.value() for message in reader.consume(500, timeout=0.2) if message.error() is None)
        return len(found) >= count

    until(more, f"{count} records")
    reader.close()
    return found


def values(count=RECORDS):
    return [f"value {number}".encode() * 50 for number in range(count)]


def make(name):
    """A data directory with acknowledged records, as a SIGKILL leaves it."""
    broker = Broker(folder(name))
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.address, **QUIET})
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])[TOPIC].result(30)
    expect(produce(broker.address, values()), list(range(RECORDS)), "offsets")
    broker.kill()
    return broker.data_dir


def refused(data_dir, code, words, port=None, watched=None, arguments=()):
    """Starts a broker that must not start."""
    watched = watched or data_dir
    before = listing(watched)
    broker = Broker(tempfile.mkdtemp(dir=WORK), data_dir=data_dir, port=port, arguments=arguments)
    try:
        ended = subprocess.run(broker.command_line(), capture_output=True, timeout=REFUSAL_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it did not refuse within {REFUSAL_SECONDS_MAX} s") from None
    lines = ended.stderr.decode(errors="replace").strip().splitlines() or [""]
    expect(ended.returncode, code, f"exit code (last line: {lines[-1]!r})")
    for word in words:
        if word.lower() not in lines[-1].lower():
            raise AssertionError(f"the last line does not say {word!r}: {lines[-1]!r}")
    expect(os.path.exists(broker.ready_file), False, "ready file")
    expect(changes(before, listing(watched)), [], "files that the refusal changed")


def port_in_use(good):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused(copy(good, "port"), ENVIRONMENT, [f"127.0.0.1:{port}"], port=port)


def data_dir_in_use(good):
    data_dir = copy(good, "in-use")
    first = Broker(folder("in-use"), data_dir=data_dir)
    first.start()
    second = Broker(folder("in-use-second"), data_dir=data_dir)
    ended = subprocess.run(second.command_line(), capture_output=True, timeout=REFUSAL_SECONDS_MAX, check=False)
    last = (ended.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    expect(ended.returncode, ENVIRONMENT, f"exit code (last line: {last!r})")
    expect("in use" in last and data_dir in last, True, f"the last line says what is in use: {last!r}")
    expect(produce(first.address, [b"still here"]), [RECORDS], "offset given by the first broker")
    first.stop()


def below_a_file():
    path = os.path.join(folder("below"), "file")
    with open(path, "w", encoding="utf-8") as file:
        file.write("a regular file")
    refused(os.path.join(path, "data"), ENVIRONMENT, [path], watched=os.path.dirname(path))


def mount(kind, source, path, options):
    subprocess.run(["mount", "-t", kind, "-o", options, source, path], check=True, timeout=30, capture_output=True)
    MOUNTS.append(path)


def read_only_mount(good):
    path = folder("read-only")
    mount("tmpfs", "tmpfs", path, "size=2g")
    data_dir = copy(good, "read-only")
    subprocess.run(["mount", "-o", "remount,ro", path], check=True, timeout=30)
    refused(data_dir, ENVIRONMENT, [data_dir])


def wal_missing(good):
    data_dir = copy(good, "missing")
    os.remove(wal_of(data_dir))
    refused(data_dir, DAMAGE, ["missing", data_dir])
    broker = Broker(folder("missing"), data_dir=data_dir, arguments=["--accept-data-loss"])
    broker.start()
    broker.stop()


def another_cluster(good):
    data_dir = copy(good, "foreign")
    other = make("foreign-source")
    subprocess.run(["cp", "--sparse=always", wal_of(other), wal_of(data_dir)], check=True, timeout=60)
    refused(data_dir, FOREIGN, ["cluster", "device.wal"])


def newer_format(good):
    data_dir = copy(good, "newer")
    expect(walfile.slots_are_valid(wal_of(data_dir)), [True, True], "checksums as this check computes them")
    walfile.set_version(wal_of(data_dir), 999)
    expect(walfile.slots_are_valid(wal_of(data_dir)), [True, True], "checksums after the change")
    refused(data_dir, FOREIGN, ["newer", "999", "device.wal"])


def both_superblocks(good):
    data_dir = copy(good, "superblocks")
    for at in walfile.SLOTS:
        walfile.flip(wal_of(data_dir), at + 40)
    refused(data_dir, DAMAGE, ["superblock", "device.wal"])


def one_superblock(good, slot):
    name = f"superblock-{slot}"
    data_dir = copy(good, name)
    walfile.flip(wal_of(data_dir), walfile.SLOTS[slot] + 40)
    broker = Broker(folder(name), data_dir=data_dir)
    broker.start()
    expect(read(broker.address, RECORDS), values(), "records after the repair")
    broker.stop()
    with open(broker.log, encoding="utf-8", errors="replace") as log:
        expect("superblock" in log.read(), True, "the log reports the damaged superblock")
    expect(walfile.slots_are_valid(wal_of(data_dir)), [True, True], "superblocks after the repair")


def flipped_byte(good):
    data_dir = copy(good, "flipped")
    groups = walfile.groups(wal_of(data_dir))
    expect(len(groups) >= 5, True, f"groups not trimmed yet are at least five (found {groups})")
    walfile.flip(wal_of(data_dir), groups[len(groups) // 2] + walfile.GROUP_HEADER_BYTES + 20)
    refused(data_dir, DAMAGE, ["device.wal", str(groups[len(groups) // 2])])


def disk_full():
    """A producer sees a retriable error while the disk is full, and goes on when there is room."""
    path = folder("full")
    image = os.path.join(WORK, "full.img")
    subprocess.run(["truncate", "-s", "768M", image], check=True, timeout=30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, timeout=60, capture_output=True)
    mount("ext4", image, path, "loop")
    broker = Broker(folder("full-run"), data_dir=os.path.join(path, "data"))
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.address, **QUIET})
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])[TOPIC].result(30)
    filler = os.path.join(path, "filler")
    free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
    subprocess.run(["fallocate", "-l", str(max(free - (24 << 20), 1 << 20)), filler], check=True, timeout=30)
    acknowledged, errors = [], []

    def delivered(error, message):
        (errors if error else acknowledged).append(error or (message.offset(), message.value()))

    # Without retries the client shows the broker's own answer.
    settings = {"bootstrap.servers": broker.address, "acks": "all", "retries": 0, "message.timeout.ms": 60000, "linger.ms": 0, **QUIET}
    producer = Producer(settings)
    deadline = time.monotonic() + 120
    number = 0
    while not errors and time.monotonic() < deadline:
        producer.produce(TOPIC, f"{number} ".encode() + os.urandom(500_000), partition=0, on_delivery=delivered)
        number += 1
        producer.flush(70)
    expect(bool(errors), True, f"an error comes within 120 s ({len(acknowledged)} records acknowledged)")
    expect(errors[0].name() in RETRIABLE, True, f"the error is retriable: {errors[0]}")
    expect(broker.is_alive(), True, f"the broker lives (last words: {broker.last_words()})")
    os.remove(filler)
    errors.clear()

    def goes_on():
        errors.clear()
        producer.produce(TOPIC, b"room again", partition=0, on_delivery=delivered)
        producer.flush(70)
        return not errors

    until(goes_on, "service goes on when there is room", 60)
    found = read(broker.address, len(acknowledged))
    missing = [offset for offset, value in acknowledged if offset >= len(found) or found[offset] != value]
    expect(missing, [], "acknowledged offsets that read wrong")
    broker.stop()


def clean_up():
    for path in reversed(MOUNTS):
        subprocess.run(["umount", "-l", path], check=False, timeout=30)
    shutil.rmtree(WORK, ignore_errors=True)


def main():
    try:
        good = make("good")
        REPORT.check("a port in use is refused", lambda: port_in_use(good))
        REPORT.check("a data directory in use is refused", lambda: data_dir_in_use(good))
        REPORT.check("a data directory below a regular file is refused", below_a_file)
        REPORT.check("a data directory on a read-only mount is refused", lambda: read_only_mount(good))
        REPORT.check("a missing WAL is refused, and --accept-data-loss goes on", lambda: wal_missing(good))
        REPORT.check("a WAL of another cluster is refused", lambda: another_cluster(good))
        REPORT.check("a WAL of a newer format is refused", lambda: newer_format(good))
        REPORT.check("two damaged superblocks are refused", lambda: both_superblocks(good))
        for slot in range(2):
            REPORT.check(f"damage of superblock {slot} alone is reported and repaired", lambda slot=slot: one_superblock(good, slot))
        REPORT.check("a flipped byte in front of a durable point is refused", lambda: flipped_byte(good))
        REPORT.check("a full disk gives a retriable error and service goes on with room", disk_full)
    finally:
        clean_up()
    REPORT.finish()


main()
