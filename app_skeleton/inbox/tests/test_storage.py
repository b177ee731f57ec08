"""Files in a folder, and in a bucket of a server that speaks S3."""

import io
import os
import re
import secrets
import subprocess
import sys
import threading

import boto3
import pytest
from flask import Flask
from flask_ops.settings import SettingError
from inbox import storage

PART_BYTES = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def s3_endpoint():
    """A server that speaks S3, on the loopback."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = []
    try:
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
                break
        else:
            pytest.fail("".join(said))
        # It goes on writing a line for each request.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield found[1]
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name in ("storage_access_key", "storage_secret_key"):
        (folder / f"app_{name}").write_text(secrets.token_hex())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


@pytest.fixture
def s3_url(s3_endpoint, credentials):
    bucket = f"files-{secrets.token_hex(4)}"
    boto3.session.Session().client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="eu-central-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    ).create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return f"s3://{bucket}/some/prefix?region=eu-central-1&endpoint={s3_endpoint}"


@pytest.fixture(params=["folder", "s3"])
def kept(request, tmp_path):
    if request.param == "folder":
        return storage.from_url(f"file://{tmp_path}/made/when%20needed")
    return storage.from_url(request.getfixturevalue("s3_url"))


class Pipe(io.RawIOBase):
    """A file that can neither be sought nor asked for its size, and says how it was read."""

    def __init__(self, size):
        self.left = size
        self.largest = 0

    def readable(self):
        return True

    def read(self, size=-1):
        self.largest = max(self.largest, size if size >= 0 else sys.maxsize)
        given = self.left if size < 0 else min(size, self.left)
        self.left -= given
        return b"x" * given


def test_what_is_saved_is_read_again_from_any_place(kept):
    data = secrets.token_bytes(300_000)
    assert kept.save("imports/a.csv", io.BytesIO(data)) == len(data)
    assert kept.size("imports/a.csv") == len(data)
    for offset in (0, 1, 299_999, 300_000, 400_000):
        with kept.open("imports/a.csv", offset) as file:
            assert file.read() == data[offset:], offset


def test_lines_are_read_one_by_one(kept):
    kept.save("a", io.BytesIO(b"one\ntwo\nthree"))
    with kept.open("a", 4) as file:
        assert [file.readline(), file.readline(2), file.readline(), file.readline()] == [
            b"two\n",
            b"th",
            b"ree",
            b"",
        ]


def test_saving_again_replaces_the_whole_file(kept):
    kept.save("a", io.BytesIO(b"a longer one"))
    with kept.open("a") as before:
        kept.save("a", io.BytesIO(b"short"))
        with kept.open("a") as after:
            assert after.read() == b"short"
        assert before.read() == b"a longer one"
    assert kept.save("a", io.BytesIO()) == 0
    with kept.open("a") as empty:
        assert empty.read() == b""


def test_large_file_is_stored_in_pieces_without_seeking(kept):
    file = Pipe(2 * PART_BYTES + 5)
    assert kept.save("imports/large.csv", file) == 2 * PART_BYTES + 5
    assert kept.size("imports/large.csv") == 2 * PART_BYTES + 5
    assert file.largest <= PART_BYTES
    assert not file.closed


def test_deleting_twice_is_no_error_and_then_it_is_gone(kept):
    kept.save("a", io.BytesIO(b"x"))
    kept.delete("a")
    kept.delete("a")
    with pytest.raises(storage.NotStored, match="STORAGE_URL"):
        kept.open("a")
    with pytest.raises(storage.NotStored, match="STORAGE_URL"):
        kept.size("a")


@pytest.mark.parametrize(
    "key", ["../a", "a/../b", "/etc/passwd", "", "a//b", "a/", ".parts/x", "a\n", "a..b", "ä"]
)
def test_key_that_the_app_never_makes_is_refused(kept, key):
    for do in (kept.open, kept.size, kept.delete, lambda key: kept.save(key, io.BytesIO(b"x"))):
        with pytest.raises(storage.StorageError, match="is no key"):
            do(key)


class Breaking(io.BytesIO):
    def read(self, size=-1):
        raise OSError(5, "Input/output error")


def test_upload_that_breaks_off_leaves_what_was_there(kept):
    kept.save("a", io.BytesIO(b"before"))
    with pytest.raises(storage.StorageError, match="STORAGE_URL"):
        kept.save("a", Breaking())
    with kept.open("a") as file:
        assert file.read() == b"before"


def test_folder_keeps_no_half_written_file(tmp_path):
    kept = storage.from_url(f"file://{tmp_path}")
    with pytest.raises(storage.StorageError):
        kept.save("a", Breaking())
    stale = tmp_path / ".parts" / "tmpkilled"
    stale.write_bytes(b"half")
    young = tmp_path / ".parts" / "tmpother"
    young.write_bytes(b"half")
    os.utime(stale, (0, 0))
    kept.save("a", io.BytesIO(b"whole"))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a", "tmpother"}


def test_files_are_nobody_elses(tmp_path):
    storage.from_url(f"file://{tmp_path}").save("a", io.BytesIO(b"x"))
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


def test_full_or_broken_folder_is_told_by_the_settings_name(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(storage.StorageError, match=r"stored in the folder of STORAGE_URL: Not a directory"):
        storage.from_url(f"file://{tmp_path}/file").save("a", io.BytesIO(b"x"))


def test_folder_that_cannot_be_made_is_no_missing_file():
    # Nobody makes a folder there, root neither, and the kernel's answer is that there is no such file.
    with pytest.raises(storage.StorageError, match="stored in the folder of STORAGE_URL") as told:
        storage.from_url("file:///proc/files").save("a", io.BytesIO(b"x"))
    assert not isinstance(told.value, storage.NotStored)


def test_service_without_regions_needs_none(s3_url):
    storage.from_url(s3_url.replace("region=eu-central-1&", "")).save("a", io.BytesIO(b"x"))
    assert storage.from_url(s3_url).size("a") == 1


def test_bucket_that_is_not_there_or_does_not_answer_is_told_without_its_keys(s3_url, credentials):
    secret = (credentials / "app_storage_secret_key").read_text()
    gone = re.sub(r"s3://[^/]+", "s3://nobody", s3_url)
    with pytest.raises(storage.StorageError, match=r"STORAGE_URL: \w*NoSuchBucket") as told:
        storage.from_url(gone).save("a", io.BytesIO(b"x"))
    assert secret not in str(told.value)
    away = re.sub(r"endpoint=.*", "endpoint=http://127.0.0.1:9", s3_url)
    with pytest.raises(storage.StorageError, match="STORAGE_URL: EndpointConnectionError"):
        storage.from_url(away).size("a")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begins with neither"),
        ("ftp://host/x", "begins with neither"),
        ("/srv/files", "begins with neither"),
        ("file://srv/files", "by its whole path"),
        ("file://", "by its whole path"),
        ("file:///srv?x=1", "by its whole path"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket", "names no bucket"),
        ("s3://bucket/a b", "the prefix"),
        ("s3://bucket/../x", "the prefix"),
        ("s3://bucket?regoin=x", "regoin is not known"),
        ("s3://bucket?region", "not an address"),
        ("s3://bucket?endpoint=minio:9000", "the endpoint"),
        ("s3://bucket?endpoint=http://user:word@minio", "the endpoint"),
        ("s3://[", "not an address"),
    ],
)
def test_mistake_in_the_address_is_refused_at_start_and_not_quoted(url, words):
    app = Flask("app")
    app.config["STORAGE_URL"] = url
    with pytest.raises(SettingError, match=re.escape(words)) as told:
        storage.init_app(app)
    assert "STORAGE_URL" in str(told.value)
    assert "word@" not in str(told.value)
    assert "secret" not in str(told.value)


def test_one_key_of_two_is_refused_at_start(credentials):
    (credentials / "app_storage_secret_key").unlink()
    with pytest.raises(SettingError, match="'storage_secret_key' is missing"):
        storage.from_url("s3://bucket")


def test_boto3_is_not_loaded_for_a_folder(tmp_path):
    code = "import sys, io; from inbox import storage\n"
    code += (
        f"storage.from_url('file://{tmp_path}').save('a', io.BytesIO(b'x')); print('boto3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
