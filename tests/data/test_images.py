"""One picture of any kind is read rightly, or refused in a few words."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from adapcli.data.entries import form_of
from adapcli.data.images import (
    Decoding,
    UnreadableImageError,
    check_image,
    converted,
    examine_image,
    formats,
    no_warnings,
    read_image,
)
from adapcli.model.preprocessing import rgb

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)


def colours():
    """8 x 8 RGB, all channels different."""
    return np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)


def read(path, mode="RGB"):
    with no_warnings():
        assert check_image(path, mode) == ""
        return np.asarray(read_image(path, mode))


def reason(path, mode="RGB"):
    with no_warnings():
        with pytest.raises(UnreadableImageError) as caught:
            read_image(path, mode)
        assert check_image(path, mode) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "ppm", "tga", "webp"])
def test_lossless_formats_give_the_very_pixels(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(colours()).save(path, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read(path), colours())


def test_jpeg_is_close_and_grey_equals_pillow(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RAMP).resize((64, 64)).save(path, quality=95)
    assert read(path).shape == (64, 64, 3)
    np.testing.assert_array_equal(read(path, "L"), np.asarray(Image.open(path)))


def test_cmyk(tmp_path):
    path = tmp_path / "a.tif"
    # Full cyan ink, no black: no red light, all green and blue.
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(path)
    assert read(path)[0, 0].tolist() == [0, 255, 255]


def blended(values, alpha, background):
    return np.rint(values * (alpha / 255) + background * (1 - alpha / 255))


@pytest.mark.parametrize(("background", "colour"), [("white", 255), ("black", 0), ("#404040", 64)])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_composited_whatever_colour_lies_under_them(
    tmp_path, mode, background, colour
):
    path = tmp_path / "a.png"
    image = Image.fromarray(RAMP).convert(mode)
    image.putalpha(Image.fromarray(RAMP.T))
    image.save(path)
    how = Decoding(rgb(background))
    with no_warnings():
        assert examine_image(path, "L", how) == ("", True, False)
        found = np.asarray(read_image(path, "L", how)).astype(int)
    assert np.abs(found - blended(RAMP, RAMP.T, colour)).max() <= 1


def test_opaque_alpha_changes_nothing(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(colours()).convert("RGBA").save(path)
    np.testing.assert_array_equal(read(path), colours())
    assert not examine_image(path, "RGB").transparent


@pytest.mark.parametrize("kind", ["RGBa", "La"])
def test_premultiplied_transparency(kind):
    grey = Image.new("LA", (4, 4), (100, 128))
    found, transparent = converted((grey.convert("RGBA") if kind == "RGBa" else grey).convert(kind), "L")
    assert transparent
    assert abs(found.getpixel((0, 0)) - 177) <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_one_transparent_colour(tmp_path, mode):
    path = tmp_path / "a.png"
    image = Image.new("L", (2, 1))
    image.putpixel((1, 0), 255)
    image.convert(mode).save(path, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert read(path, "L").tolist() == [[255, 255]]
    assert np.asarray(read_image(path, "L", Decoding((0, 0, 0)))).tolist() == [[0, 255]]


def test_one_transparent_value_of_16_bits(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 300, 65_535]], np.uint16)).save(path)
    content = path.read_bytes()
    place = content.index(b"IDAT") - 4
    path.write_bytes(content[:place] + chunk(b"tRNS", struct.pack(">H", 300)) + content[place:])
    assert read(path, "L").tolist() == [[0, 255, 255]]


def chunk(kind, content):
    """Of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    ("transparency", "first"), [(None, 0), (3, 0), (0, 255), (bytes([255, 0, *[9] * 254]), 0)], ids=str
)
def test_palette(tmp_path, transparency, first):
    path = tmp_path / "a.png"
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50] + [9] * 762)
    image.putpixel((1, 0), 1)
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    second = [255] * 3 if isinstance(transparency, bytes) else [200, 100, 50]
    assert read(path)[0].tolist() == [[first] * 3, second]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    np.testing.assert_array_equal(read(path, "L"), RAMP)
    np.testing.assert_array_equal(read(path)[..., 2], RAMP)


def test_big_endian_sixteen_bits(tmp_path):
    path = tmp_path / "a.tif"
    data = (RAMP.astype(">u2") * 257).astype(">u2").tobytes()
    Image.frombytes("I;16B", (8, 8), data).save(path)
    np.testing.assert_array_equal(read(path, "L"), RAMP)


def test_floating_point_in_zero_to_one(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(RAMP.astype(np.float32) / 255).save(path)
    np.testing.assert_array_equal(read(path, "L"), RAMP)


@pytest.mark.parametrize("pixel", [-1.0, 1.5, float("nan")])
def test_floating_point_outside_is_refused(tmp_path, pixel):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 4), pixel, np.float32)).save(path)
    assert "lie outside 0..1" in reason(path)


def test_thirty_two_bits_beyond_sixteen_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(path)
    assert "pixel values 70000..70000 lie outside 0..65535" in reason(path)


def test_one_bit(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RAMP > 100).save(path)
    np.testing.assert_array_equal(read(path, "L"), np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, orientation, turns):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()[:4]).save(path, exif=exif)
    np.testing.assert_array_equal(read(path), np.rot90(colours()[:4], turns))


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_an_animation_shows_its_first_frame(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    frames = [Image.new("L", (8, 8), shade) for shade in (10, 200)]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if ending == "webp" else {})
    )
    assert read(path, "L")[0, 0] == 10
    assert examine_image(path, "L").frames
    frames[0].save(path)
    assert not examine_image(path, "L").frames


def test_damaged_files_say_so(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    content = whole.read_bytes()
    for name, damaged in (("text", b"hello"), ("cut", content[: len(content) // 2]), ("head", content[:20])):
        path = tmp_path / f"{name}.png"
        path.write_bytes(damaged)
        assert reason(path)
        assert str(tmp_path) not in reason(path)


def test_a_cut_jpeg_is_noticed_at_reduced_size_too(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in reason(path)


def test_empty_missing_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    assert reason(tmp_path / "empty.png") == "empty file"
    assert reason(tmp_path / "folder.png") == "a folder, not a picture"
    assert reason(tmp_path / "none.png") == "No such file or directory"


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_decompression_bomb_is_refused_before_it_goes_off(tmp_path, side):
    """100 and 400 megapixels: Pillow would only warn about the first."""
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(
        content + struct.pack(">I", 4) + b"IDATabcd" + struct.pack(">I", zlib.crc32(b"IDATabcd"))
    )
    assert "decompression bomb" in reason(path)


def test_postscript_is_never_run(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert "EPS" not in formats()
    assert reason(path) == "not a picture that Pillow can read"


def test_damaged_metadata_is_no_reason_and_no_warning(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\xff garbage")
    assert read(path).shape == (8, 8, 3)


ODD = {
    "resolution as bytes": (0x011A, 1, 4, b"abcd"),
    "negative width": (0x0100, 9, 1, struct.pack("<l", -5)),
    "strip offset": (0x0111, 4, 1, struct.pack("<L", 0xFFFFFFFF)),
    "sub-directory nowhere": (0x8769, 4, 1, struct.pack("<L", 0xFFFFFFFF)),
    "type unknown": (0x010F, 99, 4, b"abc\0"),
    "none": (0x010F, 2, 4, b"abc\0"),
}


def exif_of(*tags):
    """An EXIF block of entries (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHL", t, k, c) + v for t, k, c, v in sorted(tags))
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("odd", sorted(ODD))
def test_odd_exif_tags_change_nothing_about_orientation(tmp_path, odd, ending):
    path, block = tmp_path / f"a.{ending}", exif_of((0x0112, 3, 1, struct.pack("<HH", 6, 0)), ODD[odd])
    lossless = {"lossless": True} if ending == "webp" else {}
    big = Image.fromarray(colours()[:4]).resize((16, 8), Image.Resampling.NEAREST)
    big.save(path, exif=block[6:] if ending == "webp" else block, quality=100, **lossless)
    found, expected = read(path).astype(int), np.rot90(np.asarray(big), 3).astype(int)
    assert found.shape == (16, 8, 3)
    assert np.abs(found - expected).mean() < (30 if ending == "jpg" else 0.1)


def test_odd_tags_of_tiff_change_nothing_about_orientation(tmp_path):
    path, image = tmp_path / "a.tif", Image.fromarray(colours()[:4])
    tags = ImageFileDirectory_v2()
    tags[0x0112], tags[0x9C9B] = 6, 0xFFFFFFF0
    tags.tagtype[0x9C9B] = 4
    image.save(path, tiffinfo=tags)
    content = path.read_bytes()  # a sub-directory that is nowhere, which Pillow would not write
    path.write_bytes(content.replace(struct.pack("<H", 0x9C9B), struct.pack("<H", 0x8769)))
    np.testing.assert_array_equal(read(path), np.rot90(colours()[:4], 3))


@pytest.mark.parametrize("value", [0, 9, 255, 65_535])
def test_orientations_that_do_not_exist_are_none(tmp_path, value):
    path = tmp_path / "a.png"
    Image.fromarray(colours()).save(path, exif=exif_of((0x0112, 3, 1, struct.pack("<HH", value, 0))))
    np.testing.assert_array_equal(read(path), colours())


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["text", "itxt", "profile", "damaged"])
def test_texts_and_profiles_of_a_png_are_never_a_reason(tmp_path, kind, place):
    path, large = tmp_path / "a.png", zlib.compress(b"x" * (3 << 20))
    metadata = {
        "text": chunk(b"zTXt", b"parameters\0\0" + large),
        "itxt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + large),
        "profile": chunk(b"iCCP", b"name\0\0" + large),
        "damaged": chunk(b"zTXt", b"parameters\0\7" + large),
    }[kind]
    Image.fromarray(colours()).save(path, exif=exif_of((0x0112, 3, 1, struct.pack("<HH", 3, 0))))
    content = path.read_bytes()
    at = content.index({"before": b"IDAT", "after": b"IEND"}[place]) - 4
    path.write_bytes(content[:at] + metadata + content[at:])
    np.testing.assert_array_equal(read(path), np.rot90(colours(), 2))
    with no_warnings():
        assert form_of(path) == (8, 8, "RGB")


def test_a_text_bomb_is_not_unpacked(tmp_path):
    """64 texts that unpack to 64 MB each: read, and no more memory than one of Pillow's texts is used."""
    path, text = tmp_path / "a.png", chunk(b"zTXt", b"t\0\0" + zlib.compress(b"x" * (64 << 20)))
    Image.fromarray(colours()).save(path)
    content = path.read_bytes()
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + text * 64 + content[at:])
    tracemalloc.start()
    np.testing.assert_array_equal(read(path), colours())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


def test_max_pixels_is_a_limit_of_each_image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(colours()).save(path)
    with pytest.raises(UnreadableImageError, match=r"64 pixels, more than 63 .*--max-pixels 64 allows it"):
        read_image(path, "RGB", Decoding(max_pixels=63))
    assert read_image(path, "RGB", Decoding(max_pixels=64)).size == (8, 8)


def test_max_pixels_allows_more_than_pillow_does(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    Image.fromarray(colours()).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 31)
    assert check_image(path, "RGB", Decoding(max_pixels=31)) != ""
    assert check_image(path, "RGB", Decoding(max_pixels=64)) == ""


@pytest.mark.parametrize("photometric", [0, 1])
def test_12_and_16_bits_of_tiff_count_to_their_own_top(photometric):
    """As Pillow opens them: 12 bits count to 4095, and photometric 0 down from white."""
    image = Image.fromarray(np.array([[0, 4095]], np.uint16))
    found, _ = converted(image, "L", top=4095, inverted=photometric == 0)
    assert np.asarray(found).tolist() == [[255, 0] if photometric == 0 else [0, 255]]
