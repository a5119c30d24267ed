"""Files in an object store, through the real API of S3 (moto's server)."""

from collections.abc import Iterator
from typing import Any

import pytest

import stepson
from stepson import FormatError, RemoteError
from tests.stepson.files import check_content, steps_of
from tests.stepson.test_remote import BLOCKS, MANY, MIDDLE, OPEN, SEALED

pytestmark = pytest.mark.peer


class Store:
    """What is asked of the store, and how to reach it."""

    def __init__(self, endpoint: str) -> None:
        self.options = {"key": "k", "secret": "s", "endpoint_url": endpoint}
        self.asked: list[tuple[str, str]] = []


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    s3fs = pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    found = Store(f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}")
    files = s3fs.S3FileSystem(**found.options)
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *words: Any, **named: Any) -> Any:
        found.asked.append((method, named.get("Range", "")))
        return await call(self, method, *words, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        files.mkdir("bucket")
        contents = {"sealed": SEALED, "open": OPEN, "torn": OPEN + bytes(1001)}
        for name, data in {**contents, "middle": MIDDLE, "empty": b""}.items():
            files.pipe(f"bucket/{name}.son", data)
        files.pipe("bucket/far.son", OPEN + bytes(10**6))
        patch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
        yield found
    server.stop()


@pytest.mark.parametrize(
    ("name", "most", "torn"),
    [("sealed", 2, 0), ("open", 4, 0), ("torn", 4, 1001), ("far", 4, 10**6)],
)
def test_requests_of_opening(store: Store, name: str, most: int, torn: int) -> None:
    store.asked.clear()
    with stepson.open(f"s3://bucket/{name}.son", storage_options=store.options) as traj:
        assert len(store.asked) <= most
        assert traj.torn_bytes == torn
        check_content(traj, steps_of(BLOCKS))


def test_ranges(store: Store) -> None:
    with stepson.open("s3://bucket/middle.son", storage_options=store.options) as traj:
        store.asked.clear()
        check_content(traj, steps_of(BLOCKS), MANY)
        assert len(store.asked) < 10
        assert {method for method, _ in store.asked} == {"get_object"}


def test_errors(store: Store) -> None:
    for name in ("bucket/nothing.son", "nothing/nothing.son"):
        with pytest.raises(RemoteError, match="there is no such file"):
            stepson.open(f"s3://{name}", storage_options=store.options)
    with pytest.raises(FormatError, match="empty"):
        stepson.open("s3://bucket/empty.son", storage_options=store.options)
    keyless = {"endpoint_url": store.options["endpoint_url"]}
    with pytest.raises(RemoteError, match=r"access is refused .*storage_options"):
        stepson.open("s3://bucket/sealed.son", storage_options=keyless)
