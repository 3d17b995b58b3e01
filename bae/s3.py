"""The few S3 calls that storage needs, with one way of waiting and of failing.

botocore does signing, credentials and multipart limits; s3fs, pyarrow and
deltalake get the same endpoint and credentials. A server that is down for a short
while or says 503 SlowDown is waited for, up to ``PATIENCE_S``; wrong keys, missing
buckets and expired credentials fail at once, with a sentence.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow.fs

from bae.errors import StorageError

PATIENCE_S = 60.0
"""How long a call keeps trying while the server is away or slow."""

_PART_BYTES = 64 * 2**20

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WAIT = {
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalError",
    "ServiceUnavailable", "RequestTimeout", "500", "502", "503", "504",
}  # fmt: skip
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_SENTENCES = {
    "NoSuchBucket": "the bucket does not exist; check its name and the endpoint",
    "NoSuchKey": "the object does not exist",
    "InvalidAccessKeyId": "the access key is not known to the server; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them and run again, "
    "finished parts are kept",
    "AccessDenied": "these credentials may not do this; check the bucket's policy",
}
_SENTENCES |= {"404": _SENTENCES["NoSuchKey"], "403": _SENTENCES["AccessDenied"]}


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key``; keys are taken as they are, unescaped."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError("an s3:// URI needs a bucket: s3://bucket/prefix")
    return bucket, key


def endpoint() -> str | None:
    """Return the endpoint from the environment, None for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def client() -> Any:
    """Return this process's botocore client; clients may be shared by threads."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    # The environment is part of the cache's key: a test, or a notebook, may change it.
    return _client(os.getpid(), endpoint(), _region(), tuple(os.environ.get(k) for k in keys))


@functools.lru_cache(maxsize=4)
def _client(pid: int, url: str | None, region: str, keys: tuple[str | None, ...]) -> Any:
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=64,
        retries={"mode": "standard", "total_max_attempts": 2},
        # Servers other than AWS do not all know the newer checksum headers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if url else {},
    )
    session = botocore.session.get_session()
    return session.create_client("s3", region_name=region, endpoint_url=url, config=config)


def _patiently(doing: str, call: Callable[[], _T]) -> _T:
    """Make a call, waiting while the server is away or slow; translate what stays wrong."""
    from botocore import exceptions

    away = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.ResponseStreamingError,
        exceptions.IncompleteReadError,
        ConnectionError,
        TimeoutError,
    )
    give_up = time.monotonic() + PATIENCE_S
    pause = 0.1
    while True:
        try:
            return call()
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code not in _WAIT or time.monotonic() > give_up:
                raise StorageError(f"cannot {doing}: {_sentence(code)}") from error
            why = code
        except exceptions.NoCredentialsError as error:
            raise StorageError(
                f"cannot {doing}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        except away as error:
            if time.monotonic() > give_up:
                raise StorageError(
                    f"cannot {doing}: no answer from {_server()} for {PATIENCE_S:.0f} s; "
                    "check AWS_ENDPOINT_URL and the network"
                ) from error
            why = "no answer"
        except exceptions.BotoCoreError as error:
            raise StorageError(f"cannot {doing}: {type(error).__name__}") from error
        _log.debug("S3: %s, trying again in %.1f s", why, pause)
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, 5.0)


def _sentence(code: str) -> str:
    if code in _WAIT:
        return f"the server kept saying {code} for {PATIENCE_S:.0f} s; run again later"
    return _SENTENCES.get(code, f"the server says {code or 'nothing'}")


def _server() -> str:
    url = endpoint()
    return urlsplit(url).netloc if url else "AWS"


def _code(error: StorageError) -> str:
    """Return the S3 error code behind a StorageError, empty if there is none."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_absent(error: StorageError) -> bool:
    """Say whether the error means that there is no such object."""
    return _code(error) in _ABSENT


def read(uri: str) -> bytes:
    """Return an object's bytes."""
    bucket, key = split(uri)
    return _patiently(
        "read an object",
        lambda: bytes(client().get_object(Bucket=bucket, Key=key)["Body"].read()),
    )


def write(uri: str, data: bytes) -> None:
    """Put an object; above 64 MiB in parts, which appear together."""
    bucket, key = split(uri)
    if len(data) <= _PART_BYTES:
        _patiently(
            "write an object", lambda: client().put_object(Bucket=bucket, Key=key, Body=data)
        )
        return
    place = {"Bucket": bucket, "Key": key}
    upload = _patiently("write an object", lambda: client().create_multipart_upload(**place))
    place["UploadId"] = upload["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, len(data), _PART_BYTES), start=1):
            put = functools.partial(
                client().upload_part,
                **place,
                PartNumber=number,
                Body=data[start : start + _PART_BYTES],
            )
            answer = _patiently("write an object", put)
            parts.append({"ETag": answer["ETag"], "PartNumber": number})
        _patiently(
            "write an object",
            lambda: client().complete_multipart_upload(**place, MultipartUpload={"Parts": parts}),
        )
    except StorageError:
        _patiently("write an object", lambda: client().abort_multipart_upload(**place))
        raise


def create(uri: str, data: bytes) -> bool:
    """Put an object only if there is none of that name (``If-None-Match: *``)."""
    bucket, key = split(uri)
    put = functools.partial(client().put_object, Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    try:
        _patiently("create an object", put)
    except StorageError as error:
        if _code(error) in _TAKEN:
            # An answer lost on the way makes us try again and meet our own object.
            return read(uri) == data
        raise
    return True


def exists(uri: str) -> bool:
    """Say whether there is an object of that name, or any below it."""
    bucket, key = split(uri)
    prefix = key.rstrip("/") + "/" if key.strip("/") else ""
    if key:
        try:
            _patiently("look at an object", lambda: client().head_object(Bucket=bucket, Key=key))
            return True
        except StorageError as error:
            if not is_absent(error):
                raise
    found = _patiently(
        "look at a place",
        lambda: client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1),
    )
    return bool(found.get("Contents"))


def delete(uri: str) -> None:
    """Delete an object and everything below it."""
    bucket, key = split(uri)
    below = [name for name, _, _ in _pages(bucket, key.rstrip("/") + "/")]
    for name in [*below, key]:
        drop = functools.partial(client().delete_object, Bucket=bucket, Key=name)
        _patiently("delete an object", drop)


def list_keys(uri: str, hidden: bool = False) -> Iterator[tuple[str, str, int]]:
    """Yield (uri, etag, size) of all objects at or below a place; hidden names if asked."""
    bucket, key = split(uri)
    prefix = key.rstrip("/") + "/" if key else ""
    found = False
    for name, etag, size in _pages(bucket, prefix):
        found = True
        parts = name[len(prefix) :].split("/")
        if not parts[-1] or (not hidden and any(part.startswith(("_", ".")) for part in parts)):
            continue
        yield f"s3://{bucket}/{name}", etag, size
    if not found and key:
        try:
            head = _patiently("list " + uri, lambda: client().head_object(Bucket=bucket, Key=key))
        except StorageError as error:
            if not is_absent(error):
                raise
            raise StorageError(f"there is nothing at {uri}; check bucket and prefix") from error
        yield uri, head["ETag"].strip('"'), head["ContentLength"]


def _pages(bucket: str, prefix: str) -> Iterator[tuple[str, str, int]]:
    token: dict[str, str] = {}
    while True:
        ask = functools.partial(
            client().list_objects_v2, Bucket=bucket, Prefix=prefix, MaxKeys=1000, **token
        )
        page = _patiently(f"list s3://{bucket}", ask)
        for item in page.get("Contents", ()):
            yield item["Key"], item["ETag"].strip('"'), item["Size"]
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def s3fs_options() -> dict[str, Any]:
    """Return the arguments of ``s3fs.S3FileSystem``; keys come from the environment."""
    options: dict[str, Any] = {
        "config_kwargs": {"retries": {"mode": "standard", "max_attempts": 8}},
        "use_listings_cache": False,
    }
    if url := endpoint():
        options["endpoint_url"] = url
    return options


def pyarrow_filesystem() -> pyarrow.fs.FileSystem:
    """Return pyarrow's own S3 filesystem, with the same endpoint."""
    url = urlsplit(endpoint() or "")
    place = {"endpoint_override": url.netloc, "scheme": url.scheme} if url.netloc else {}
    retry = pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=10)
    return pyarrow.fs.S3FileSystem(region=_region(), retry_strategy=retry, **place)


def delta_options() -> dict[str, str]:
    """Return deltalake's options: same endpoint; commits by conditional put, no lock table."""
    # The time limits, not the count: refused connections use up twenty tries in five seconds.
    patience = {"max_retries": "10000", "retry_timeout": f"{PATIENCE_S:.0f}s"}
    options = {"AWS_REGION": _region(), "conditional_put": "etag"} | patience
    if url := endpoint():
        options["AWS_ENDPOINT_URL"] = url
        options["AWS_ALLOW_HTTP"] = "true" if url.startswith("http://") else "false"
    return options
