"""`gradgan.data.image_files`: zip archives as folders of images, and archives that nobody should open."""

import io
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.config import ConfigError
from gradgan.data import image_files
from gradgan.data.folder import Folder


def png(number: int) -> bytes:
    """An image whose red is the number."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Folder:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return folder(path)


def folder(path: Path) -> Folder:
    return Folder(root=str(path), size=8, channels=3, labels=True, held_out=0, mixed="error")


def refused(data: Folder, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        data.load()
    assert str(info.value).startswith(f"data.root={data.root}")


@pytest.mark.parametrize("top", ["", "set/", "set/images/"])
def test_an_archive_is_the_folder_that_was_packed(top: str, tmp_path: Path) -> None:
    names = ["train/cat/0.png", "train/dog/1.png", "train/dog/2.png", "test/cat/3.png", "readme.txt"]
    for number, name in enumerate(names):
        path = tmp_path / "unpacked" / top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "unpacked")
    one, two = folder(tmp_path / "packed.zip"), folder(tmp_path / "unpacked")
    assert one.num_classes == two.num_classes == 2
    packed, unpacked = one.load(), two.load()
    assert torch.equal(packed.train, unpacked.train)
    assert torch.equal(packed.held_out, unpacked.held_out)
    assert packed.labels.tolist() == unpacked.labels.tolist()
    assert [n.partition(": ")[2] for n in packed.notes] == [n.partition(": ")[2] for n in unpacked.notes]


def test_what_a_mac_packs_beside_the_images_is_passed_over(tmp_path: Path) -> None:
    members = {"set/0.png": png(0), "__MACOSX/set/._0.png": b"attributes", "set/.DS_Store": b"view"}
    images = archive(tmp_path / "mac.zip", members).load()
    assert len(images.train) == 1
    assert len(images.notes) == 1


def test_names_with_the_slashes_of_windows_are_paths(tmp_path: Path) -> None:
    assert archive(tmp_path / "old.zip", {"a\\0.png": png(0), "b\\1.png": png(1)}).num_classes == 2


@pytest.mark.parametrize(
    "name",
    [
        "../0.png",
        "a/../../0.png",
        "..\\0.png",
        "/0.png",
        "\\\\host\\share\\0.png",
        "C:\\0.png",
        "../readme.txt",
    ],
)
def test_a_name_that_climbs_out_is_refused(name: str, tmp_path: Path) -> None:
    data = archive(tmp_path / "climbing.zip", {"1.png": png(1), name: png(0)})
    refused(data, "is refused: its member .* lies outside the archive")
    with pytest.raises(ConfigError, match="lies outside the archive"):
        _ = data.num_classes


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        file.writestr("0.png", png(0))
        file.writestr(link, "/etc/passwd")
    refused(folder(tmp_path / "link.zip"), "is refused: its member '1.png' is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as file:
        file.writestr("0.png", png(0))
        file.writestr("0.png", png(1))
    refused(folder(tmp_path / "twice.zip"), "is refused: it holds '0.png' twice")


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>404</html>")
    refused(
        folder(tmp_path / "page.zip"),
        "is not a folder, nor a zip archive that can be read: File is not a zip",
    )


def test_an_archive_cut_off_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "cut.zip", {f"{n}.png": png(n) for n in range(9)})
    content = (tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    refused(folder(tmp_path / "cut.zip"), "nor a zip archive that can be read")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    image = png(7)
    data = archive(tmp_path / "damaged.zip", {"0.png": png(0), "7.png": image}, zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "damaged.zip").read_bytes())
    content[content.rindex(image[:-4]) + 30] ^= 1
    (tmp_path / "damaged.zip").write_bytes(content)
    refused(data, r"1 of 2 images cannot be read: 7.png; .* \(7.png: Bad CRC-32 for file '7.png'\)")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "secret.zip", {"0.png": png(0)})
    content = bytearray((tmp_path / "secret.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "secret.zip").write_bytes(content)
    refused(folder(tmp_path / "secret.zip"), "is encrypted: unpack it, and give the folder")


def test_an_archive_that_would_grow_out_of_proportion_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(image_files, "BOMB_BYTES", 2**20)
    data = archive(tmp_path / "bomb.zip", {"0.png": png(0), "rest.bin": bytes(2**21)})
    refused(data, "is refused: .* bytes that would become .* hold no pictures")
    monkeypatch.setattr(image_files, "BOMB_BYTES", 2**22)
    assert len(data.load().train) == 1


def test_a_member_too_large_to_be_an_image_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(image_files, "MAX_BYTES", 1000)
    data = archive(tmp_path / "large.zip", {"0.png": png(0), "1.png": bytes(1001), "data.bin": bytes(2000)})
    refused(data, "is refused: its member '1.png' has 1001 bytes")


def test_a_file_too_large_to_be_an_image_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(image_files, "MAX_BYTES", 1000)
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "1.png").write_bytes(bytes(1001))
    refused(folder(tmp_path), "1 of 2 images cannot be read: 1.png; .*not a plain file of at most 1000 bytes")


def test_an_archive_without_images_says_so(tmp_path: Path) -> None:
    refused(archive(tmp_path / "text.zip", {"readme.txt": b"nothing"}), "holds no image")
