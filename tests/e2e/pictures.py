"""Pictures as bytes, and the form by which they are uploaded."""

import struct
import zlib

BOUNDARY = "5c1e--hourz"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, noise=None, level=1):
    """RGB; `noise` is a random.Random, or None for black."""
    if noise is None:
        raw = bytes((3 * width + 1) * height)
    else:
        raw = b"".join(b"\0" + noise.randbytes(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, level)) + chunk(b"IEND", b"")


def form(data, name="photo.png"):
    return (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n").encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def upload(person, data, status=201, category="gig"):
    return person.call("POST", f"/api/upload/{category}", form(data), status, {"Content-Type": TYPE})
