"""One picture of any kind is read rightly, or refused in a few words."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from adapcli.data.images import UnreadableImageError, check_image, formats, no_warnings, read_image

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


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_dropped(tmp_path, mode):
    path = tmp_path / "a.png"
    image = Image.fromarray(RAMP).convert(mode)
    image.putalpha(40)
    image.save(path)
    np.testing.assert_array_equal(read(path, "L"), RAMP)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palette(tmp_path, transparency):
    path = tmp_path / "a.png"
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50] + [9] * 762)
    image.putpixel((1, 0), 1)
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    assert read(path)[0].tolist() == [[0, 0, 0], [200, 100, 50]]


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
