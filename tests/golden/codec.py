#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes codec.txt, the golden bytes of t_golden.c, from doc/WIRE alone: exact rational
arithmetic, rounded to float32 where doc/WIRE says rn(). Knows nothing of the library."""
import struct
from fractions import Fraction as F

TILE, BLOCK, CHUNK = 1024, 32, 16384
SEED, INDEX = 0x0123456789abcdef, 4096
NAN, INF = 0x7fc00000, 0x7f800000


def value(b):
    """The number that finite float32 bits stand for."""
    e, m = b >> 23 & 255, b & 0x7fffff
    f = F(m, 1 << 149) if e == 0 else F(m | 1 << 23) * F(2) ** (e - 150)
    return -f if b >> 31 else f


def even(f):
    """The nearest integer, ties to even."""
    n = f.numerator // f.denominator
    rest = f - n
    return n + (rest > F(1, 2) or (rest == F(1, 2) and n % 2))


def rn(f):
    """Bits of the float32 nearest to a number; 0 is +0."""
    sign, f = (f < 0) << 31, abs(f)
    e = max(-149, f.numerator.bit_length() - f.denominator.bit_length() - 25)
    while f / F(2) ** e >= 1 << 24:
        e += 1
    m = even(f / F(2) ** e)
    if m == 1 << 24:
        m, e = m >> 1, e + 1
    return sign | (m if m < 1 << 23 else (e + 150) << 23 | (m & 0x7fffff))


def up(b, top):
    return min((b + 0xffff) >> 16, top)


def numbers(which):
    """A tile, as bits: of many magnitudes, some blocks of a special kind."""
    u, bits = 12345 + which, []
    for i in range(TILE):
        b = i // BLOCK
        u = (u * 1103515245 + 12345) & 0xffffffff
        n = (u >> 8 & 0xffff) - 32768
        e = -12 - b % 5 + which % 2
        if b == 9:
            n = 0
        if b == 11:
            e = -140
        if b == 13:
            n = (n >> 12) << 12
        if b == 14 and which == 0:
            e = 105
        bits.append(rn(F(n) * F(2) ** e))
    if which == 0:
        bits[5 * BLOCK + 7] = INF | 1 << 31
        bits[6 * BLOCK + 30] = NAN
    return bits


def random16(i):
    c, k = [i // 8 & 0xffffffff, i // 8 >> 32, 0, 0], [SEED & 0xffffffff, SEED >> 32]
    for _ in range(7):
        p0, p1 = c[0] * 0xd2511f53, c[2] * 0xcd9e8d57
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xffffffff, p0 >> 32 ^ c[3] ^ k[1], p0 & 0xffffffff]
        k = [(k[0] + 0x9e3779b9) & 0xffffffff, (k[1] + 0xbb67ae85) & 0xffffffff]
    return c[i % 8 // 2] >> i % 2 * 16 & 0xffff


def scale_of(fmt, block, stochastic):
    """As 16 bits."""
    a = max(b & 0x7fffffff for b in block)
    if a >= INF:
        return 0x7fc0
    if a < 0x04000000:
        return 0
    if fmt == "q8":
        return up(rn(value(a) * value(0x3c010204)), 0x7c01)
    pos = max([b for b in block if not b >> 31], default=0)
    neg = max([b & 0x7fffffff for b in block if b >> 31], default=0)
    s = rn(value(a) / 8)
    if stochastic:
        s = max(s, rn(value(min(pos, neg)) * value(0x3e124925)))
    return up(s, 0x7dff) | (0x8000 if pos > neg else 0)


def quanta(fmt, block, scale, stochastic, at):
    low, high = (-127, 127) if fmt == "q8" else (-8, 7)
    if scale in (0, 0x7fc0):
        return [0] * BLOCK
    r, q = value(rn(1 / value(scale << 16))), []
    for i, b in enumerate(block):
        t = value(rn(value(b) * r))
        t = (even(t * 32768) + random16(at + i) // 2) // 32768 if stochastic else even(t)
        q.append(min(max(t, low), high))
    return q


def to_bf16(b, stochastic, at):
    rest = b & 0x7fffffff
    if rest >= INF:
        return (b >> 16) | (0x40 if rest > INF else 0)
    if stochastic:
        return b >> 31 << 15 | min((rest + random16(at)) >> 16, 0x7f7f)
    return b >> 31 << 15 | min(even(F(rest, 65536)), 0x7f7f)


def encode(fmt, bits, stochastic=False):
    if fmt == "bf16":
        return b"".join(struct.pack("<H", to_bf16(b, stochastic, INDEX + i))
                        for i, b in enumerate(bits))
    payload, scales = b"", b""
    for at in range(0, TILE, BLOCK):
        block = bits[at:at + BLOCK]
        s = scale_of(fmt, block, stochastic)
        q = quanta(fmt, block, s, stochastic, INDEX + at)
        scales += struct.pack("<H", s)
        payload += bytes(v & 255 for v in q) if fmt == "q8" else bytes(
            (q[i] & 15) | (q[i + 1] & 15) << 4 for i in range(0, BLOCK, 2))
    return payload + scales


def decode(fmt, wire):
    """As bits."""
    if fmt == "bf16":
        return [h << 16 for (h,) in struct.iter_unpack("<H", wire)]
    scales = struct.unpack("<32H", wire[-64:])
    out = []
    for i in range(TILE):
        s = scales[i // BLOCK]
        q = wire[i] if fmt == "q8" else wire[i // 2] >> i % 2 * 4 & 15
        q -= (256 if q > 127 else 0) if fmt == "q8" else (16 if q > 7 else 0)
        out.append(NAN if s & 0x7f80 == 0x7f80 else rn(q * value(s << 16)) if s & 0x7f80 else 0)
    return out


def add(a, b):
    for x in (a, b):
        if x & 0x7fffffff > INF:
            return NAN
    if a & 0x7fffffff == INF or b & 0x7fffffff == INF:
        return NAN if a ^ b == 1 << 31 else a if a & 0x7fffffff == INF else b
    return rn(value(a) + value(b))


def fuse(fmt, wires, divisor):
    total = [0] * TILE
    for w in wires:
        total = [add(a, b) for a, b in zip(total, decode(fmt, w))]
    if divisor > 1:
        total = [t if t & 0x7fffffff >= INF else rn(value(t) / divisor) for t in total]
    return encode(fmt, total)


def pad(b):
    return b + bytes(-len(b) % 16)


def half(b):
    """float32 bits of a normal half to 16 bits, to nearest."""
    rest = b & 0x7fffffff
    return b >> 31 << 15 | even(F(rest - (112 << 23), 1 << 13))


def sparse(kind, places, count, bits, type_):
    """A message whose last chunk is short and of that kind."""
    narrow = {7: lambda b: struct.pack("<I", b), 6: lambda b: struct.pack("<H", half(b)),
              9: lambda b: struct.pack("<H", to_bf16(b, False, 0))}[type_]
    chunks = (count + CHUNK - 1) // CHUNK
    at = len(pad(bytes(32 + 8 * chunks)))
    table, bodies = b"", b""
    for c in range(chunks):
        mine = [(p - c * CHUNK, b) for p, b in zip(places, bits) if p // CHUNK == c]
        n = min(count - c * CHUNK, CHUNK)
        k = (kind if c == chunks - 1 else 0) if mine else 0
        table += struct.pack("<IHBB", (at + len(bodies)) // 16, len(mine), k, 0)
        if not mine:
            continue
        values = b"".join(narrow(b) for _, b in mine)
        if k == 0:
            bodies += pad(b"".join(struct.pack("<H", p) for p, _ in mine))
        elif k == 1:
            bodies += pad(sum(1 << p for p, _ in mine).to_bytes((n + 7) // 8, "little"))
        else:
            there = dict(mine)
            zero = bytes(len(narrow(mine[0][1])))
            values = b"".join(narrow(there[p]) if p in there else zero for p in range(n))
        bodies += pad(values)
    head = pad(bytes(32) + table)[32:]
    return struct.pack("<IHHQQQ", 0x31535843, type_, 0, count, at + len(bodies),
                       len(places)) + head + bodies


def emit(name, data):
    print("=", name)
    for i in range(0, len(data), 38):
        print(data[i:i + 38].hex())


tiles = [numbers(k) for k in range(5)]
for fmt in ("q8", "q4", "bf16"):
    emit(fmt, encode(fmt, tiles[0]))
    emit(fmt + " stochastic", encode(fmt, tiles[0], True))
    wires = [encode(fmt, t) for t in tiles[1:]]
    for count in (2, 3, 4):
        emit("%s sum of %d" % (fmt, count), fuse(fmt, wires[:count], 1))
    emit(fmt + " average of 4", fuse(fmt, wires, 4))
COUNT = 2 * CHUNK + 40
for kind, last in (("list", 3), ("bitmap", 20), ("dense", 38)):
    for type_ in (7, 6, 9):
        places = [0, 77, 16383] + sorted((i * 7 + 3) % 40 + 2 * CHUNK for i in range(last))
        bits = [rn(F((-1) ** i * (4097 + 300 * i), 4096)) for i in range(len(places))]
        emit("%s %d" % (kind, type_), sparse(("list", "bitmap", "dense").index(kind), places,
                                             COUNT, bits, type_))
