"""Looks into a device WAL and damages it, as docs/formats/wal.md describes it.

Owns: positions, checksums and the ways to break them.
Does not own: what a broker makes of it (refusals.py).
"""

import struct

SLOTS = (0, 32 * 1024)
RING = 64 * 1024
BLOCK = 4096
VERSION_AT, LENGTH_AT, SEQUENCE_AT, TRIM_POSITION_AT = 8, 12, 24, 120
CHECKSUM_BYTES = 4
GROUP_MAGIC = b"TWgr"
GROUP_HEADER_BYTES = 80


def _table():
    rows = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return rows


_ROWS = _table()


def crc32c(data):
    """CRC-32C (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _ROWS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def _read(file, at, size):
    file.seek(at)
    return file.read(size)


def _slot(file, at):
    (length,) = struct.unpack("<I", _read(file, at + LENGTH_AT, 4))
    return bytearray(_read(file, at, length))


def _checksum(slot):
    """The checksum stands last and covers what is in front of it."""
    return crc32c(bytes(slot[:-CHECKSUM_BYTES]))


def slots_are_valid(path):
    """Whether each slot has the checksum that this file computes: the check of the checker."""
    with open(path, "rb") as file:
        return [struct.unpack("<I", slot[-CHECKSUM_BYTES:])[0] == _checksum(slot) for slot in (_slot(file, at) for at in SLOTS)]


def set_version(path, version):
    """Makes both superblocks whole ones of another format version."""
    with open(path, "r+b") as file:
        for at in SLOTS:
            slot = _slot(file, at)
            struct.pack_into("<H", slot, VERSION_AT, version)
            slot[-CHECKSUM_BYTES:] = struct.pack("<I", _checksum(slot))
            file.seek(at)
            file.write(slot)


def flip(path, at):
    """Turns one bit."""
    with open(path, "r+b") as file:
        (byte,) = _read(file, at, 1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def trim_position(path):
    """Where the newest superblock says that recovery begins."""
    with open(path, "rb") as file:
        slots = [_slot(file, at) for at in SLOTS]
    newest = max(slots, key=lambda slot: struct.unpack_from("<Q", slot, SEQUENCE_AT))
    return struct.unpack_from("<Q", newest, TRIM_POSITION_AT)[0]


def groups(path):
    """Positions of the groups that recovery will read, in order."""
    found = []
    with open(path, "rb") as file:
        at = max(RING, trim_position(path))
        while head := _read(file, at, 4):
            if head == GROUP_MAGIC:
                found.append(at)
            at += BLOCK
    return found
