"""Pictures like photographs, the same for the same seed, made by libvips, which the server needs anyway.

Light that changes slowly, shapes at every scale down to single pixels, and the grain of a sensor: how a photograph is
spread over its frequencies is what decides how long a JPEG is and how long it takes to decode.
"""
import ctypes
import pathlib
import random

from load import Failed

TWELVE_MEGAPIXELS = (4032, 3024)
UCHAR = 0  # VipsBandFormat
CUBIC = 2  # VipsKernel
# Side in pixels of what is drawn at random, and how strongly: the finer, the weaker. The last is grain.
OCTAVES = ((512, 110), (128, 56), (32, 34), (8, 14), (2, 5), (1, 6))
COLOURED = 32  # from this side on the three colours differ


class Vips:
    def __init__(self):
        self.library = ctypes.CDLL("libvips.so.42")
        self.library.vips_error_buffer.restype = ctypes.c_char_p
        self.library.vips_image_new_from_memory_copy.restype = ctypes.c_void_p
        if self.library.vips_init(b"bench") != 0:
            raise Failed("libvips does not start")

    def fail(self, what: str) -> None:
        raise Failed(f"libvips: {what}: {self.library.vips_error_buffer().decode(errors='replace')}")

    def call(self, name: str, *arguments) -> ctypes.c_void_p:
        """One of libvips's operations; where `None` stands its result goes."""
        out = ctypes.c_void_p()
        given = [ctypes.byref(out) if each is None else each for each in arguments]
        if getattr(self.library, f"vips_{name}")(*given, None) != 0:
            self.fail(name)
        return out

    def noise(self, chance: random.Random, width: int, height: int, bands: int) -> ctypes.c_void_p:
        pixels = chance.randbytes(width * height * bands)
        image = self.library.vips_image_new_from_memory_copy(pixels, ctypes.c_size_t(len(pixels)), width, height, bands, UCHAR)
        if not image:
            self.fail("an image from memory")
        return ctypes.c_void_p(image)


def make(path: pathlib.Path, width: int, height: int, seed: int, quality: int = 90) -> None:
    """A JPEG of this many pixels."""
    vips, chance = Vips(), random.Random(seed)
    picture = None
    for side, strength in OCTAVES:
        bands = 3 if side >= COLOURED else 1
        # Two more to a side, since what is enlarged is cut.
        layer = vips.noise(chance, width // side + 3, height // side + 3, bands)
        if side > 1:
            layer = vips.call("resize", layer, None, ctypes.c_double(side), b"kernel", CUBIC)
        layer = vips.call("crop", layer, None, side, side, width, height) if side > 1 else \
            vips.call("crop", layer, None, 0, 0, width, height)
        # From -strength to strength, about the grey that the first one stands on.
        slope, base = ctypes.c_double(strength / 127.5), ctypes.c_double(-strength + (0 if picture else 128))
        layer = vips.call("linear1", layer, None, slope, base)
        picture = vips.call("add", picture, layer, None) if picture else layer
    picture = vips.call("cast", picture, None, UCHAR)
    picture = vips.call("copy", picture, None, b"interpretation", 22)  # sRGB
    vips.call("jpegsave", picture, str(path).encode(), b"Q", quality, b"subsample_mode", 1)
