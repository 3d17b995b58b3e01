"""The few S3 calls that storage needs, with one way of waiting and of failing.

s3fs reads, writes and deletes; pyarrow and deltalake bring clients of their own for
their own files, and get the same endpoint and credentials. A server that is down for a short
while or says 503 SlowDown is waited for, up to ``PATIENCE_S``; wrong keys, missing
buckets and expired credentials fail at once, with a sentence.
"""

import functools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import pyarrow.fs

from bae import local
from bae.errors import ObjectError, StorageError

PATIENCE_S = 60.0
"""How long a call keeps trying while the server is away or slow."""

_PART_BYTES = 64 * 2**20

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WAIT = (
    "SlowDown Throttling ThrottlingException RequestLimitExceeded InternalError "
    "ServiceUnavailable RequestTimeout 500 502 503 504"
)
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_PAST_THE_END = {"InvalidRange", "416"}
_OF_ONE_OBJECT = {
    "AccessDenied",
    "403",
    "InvalidRequest",
    "400",
    "InvalidArgument",
    "InvalidURI",
    "KeyTooLongError",
    "MethodNotAllowed",
}
"""What a server says of one object to somebody who has just listed it."""
_SENTENCES = {
    "InvalidRequest": "the server wants more for this object, such as its customer's key (SSE-C)",
    "NoSuchBucket": "the bucket does not exist; check its name and the endpoint",
    "NoSuchKey": "the object does not exist",
    "InvalidAccessKeyId": "the access key is not known to the server; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them and run again, "
    "finished parts are kept",
    "AccessDenied": "these credentials may not do this; check the bucket's policy",
}
_SENTENCES |= {"404": _SENTENCES["NoSuchKey"], "403": _SENTENCES["AccessDenied"]}
_SENTENCES |= {"400": _SENTENCES["InvalidRequest"]}


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key``; keys are taken as they are, unescaped."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError("an s3:// URI needs a bucket: s3://bucket/prefix")
    return bucket, key


def endpoint() -> str | None:
    """Return the endpoint from the environment, None for AWS itself.

    It may have a path, below which all buckets lie.

    Raises:
        StorageError: it is no URL; each client would say so in its own way, or ask elsewhere.
    """
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    name, text = next(((n, os.environ[n]) for n in names if os.environ.get(n)), ("", ""))
    if not text:
        return None
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.netloc or url.query or url.fragment:
        raise StorageError(
            f"{name} must be a URL such as https://host:9000, with http:// or https://; "
            f"it is {text!r}"
        )
    return text.rstrip("/")


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def filesystem() -> Any:
    """Return this process's s3fs filesystem; threads may share it."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    # The environment is part of the cache's key: a test, or a notebook, may change it.
    return _filesystem(os.getpid(), endpoint(), _region(), tuple(os.environ.get(k) for k in keys))


@functools.lru_cache(maxsize=4)
def _filesystem(pid: int, url: str | None, region: str, keys: tuple[str | None, ...]) -> Any:
    import s3fs

    class Exact(s3fs.S3FileSystem):  # type: ignore[misc]
        """s3fs cuts a key at ``?versionId=``; the archive's keys are taken as they are."""

        def split_path(self, path: str) -> tuple[str, str, None]:
            bucket, _, key = path.removeprefix("s3://").partition("/")
            return bucket, key, None

    config = {
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_pool_connections": 64,
        "retries": {"mode": "standard", "total_max_attempts": 2},
        # Servers other than AWS do not all know the newer checksum headers.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "s3": {"addressing_style": "path"} if url else {},
    }
    return Exact(
        endpoint_url=url,
        client_kwargs={"region_name": region},
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _patiently(doing: str, call: Callable[[], _T]) -> _T:
    """Make a call, waiting while the server is away or slow; translate what stays wrong."""
    import aiohttp
    from botocore import exceptions

    away: tuple[type[Exception], ...] = (exceptions.HTTPClientError, exceptions.ConnectionError)
    away += (exceptions.ResponseStreamingError, exceptions.IncompleteReadError)
    away += (aiohttp.ClientError, ConnectionError, TimeoutError)
    give_up = None
    pause = 0.1
    while True:
        try:
            return call()
        except (OSError, aiohttp.ClientError, exceptions.BotoCoreError) as error:
            # Patience counts from the first failure: a big object may take longer than that.
            give_up = give_up or time.monotonic() + PATIENCE_S
            answer = error.__cause__  # s3fs makes an OSError of what the server says
            if isinstance(answer, exceptions.ClientError):
                why = str(answer.response.get("Error", {}).get("Code", ""))
                if why not in _WAIT.split() or time.monotonic() > give_up:
                    raise StorageError(f"cannot {doing}: {_sentence(why)}") from answer
            elif isinstance(error, exceptions.NoCredentialsError):
                raise StorageError(
                    f"cannot {doing}: no credentials; "
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            elif not isinstance(error, away):
                raise StorageError(f"cannot {doing}: {type(error).__name__}") from error
            elif time.monotonic() > give_up:
                raise StorageError(
                    f"cannot {doing}: no answer from {_server()} for {PATIENCE_S:.0f} s; "
                    f"check AWS_ENDPOINT_URL and the network{_proxy()}"
                ) from error
            else:
                why = "no answer"
        _log.debug("S3: %s, trying again in %.1f s", why, pause)
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, 5.0)


def _sentence(code: str) -> str:
    if code in _WAIT.split():
        return f"the server kept saying {code} for {PATIENCE_S:.0f} s; run again later"
    return _SENTENCES.get(code, f"the server says {code or 'nothing'}")


def _server() -> str:
    url = endpoint()
    return urlsplit(url).netloc if url else "AWS"


def _proxy() -> str:
    """Return a hint where the environment sends requests through a proxy."""
    url = urlsplit(endpoint() or "https://s3.amazonaws.com")
    if url.scheme not in getproxies() or proxy_bypass(url.netloc):
        return ""
    return f", or name the server in no_proxy: {url.scheme}_proxy takes its requests"


def _code(error: StorageError) -> str:
    """Return the S3 error code behind a StorageError, empty if there is none."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_absent(error: StorageError) -> bool:
    """Say whether the error means that there is no such object."""
    return _code(error) in _ABSENT


def read(uri: str, start: int = 0, stop: int | None = None) -> bytes:
    """Return an object's bytes, or only those from ``start`` on and before ``stop``.

    Raises:
        ObjectError: the server refuses this object, while others may be read.
    """
    # One request: with more at a time s3fs asks for the size first.
    part = {"max_concurrency": 1} if stop is None and not start else {"start": start, "end": stop}
    try:
        return _patiently("read an object", functools.partial(_cat, uri, part))
    except StorageError as error:
        code = _code(error)
        if code in _PAST_THE_END:
            return b""
        if code == "InvalidObjectState":
            why = "the object is archived; the server gives it only once it is restored"
            raise ObjectError("object_archived", why) from error.__cause__
        if code in _OF_ONE_OBJECT or code.startswith("KMS."):
            raise ObjectError("object_unreadable", str(error)) from error.__cause__
        raise


def _cat(uri: str, part: Mapping[str, int | None]) -> bytes:
    return bytes(filesystem().cat_file(uri, **part))


def write(uri: str, data: bytes) -> None:
    """Put an object; from 128 MiB on in parts, which appear together."""
    put = functools.partial(filesystem().pipe_file, uri, data, chunksize=_PART_BYTES)
    _patiently("write an object", put)


def create(uri: str, data: bytes) -> bool:
    """Put an object only if there is none of that name (``If-None-Match: *``)."""
    put = functools.partial(filesystem().pipe_file, uri, data, mode="create")
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
    # Not s3fs's exists: on some servers it takes a folder without objects for one with some.
    if key:
        try:
            _head("look at an object", bucket, key)
            return True
        except StorageError as error:
            if not is_absent(error):
                raise
    return any(True for _ in _pages(bucket, key.rstrip("/") + "/" if key.strip("/") else ""))


def delete(uri: str) -> None:
    """Delete an object and everything below it."""
    bucket, key = split(uri)
    below = [name for name, _, _ in _pages(bucket, key.rstrip("/") + "/")]
    # Not s3fs's rm: it takes brackets and stars in a name for a pattern.
    for name in [*below, key]:
        drop = functools.partial(filesystem().rm_file, f"{bucket}/{name}")
        _patiently("delete an object", drop)


def list_keys(uri: str, hidden: bool = False) -> Iterator[tuple[str, str, int]]:
    """Yield (uri, etag, size) of all objects at or below a place; hidden names if asked."""
    bucket, key = split(uri)
    prefix = key.rstrip("/") + "/" if key else ""
    found = False
    for name, etag, size in _pages(bucket, prefix):
        found = True
        parts = name[len(prefix) :].split("/")
        if not parts[-1] or (not hidden and any(map(local.passed_over, parts))):
            continue
        yield f"s3://{bucket}/{name}", etag, size
    if not found and key:
        try:
            head = _head("list " + uri, bucket, key)
        except StorageError as error:
            if not is_absent(error):
                raise
            raise StorageError(f"there is nothing at {uri}; check bucket and prefix") from error
        yield uri, head["ETag"].strip('"'), head["ContentLength"]


def _head(doing: str, bucket: str, key: str) -> Any:
    ask = functools.partial(filesystem().call_s3, "head_object", Bucket=bucket, Key=key)
    return _patiently(doing, ask)


def _pages(bucket: str, prefix: str) -> Iterator[tuple[str, str, int]]:
    # Not s3fs's find: it holds every entry of the archive at once.
    token: dict[str, str] = {}
    while True:
        ask = functools.partial(
            filesystem().call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **token
        )
        page = _patiently(f"list s3://{bucket}", ask)
        for item in page.get("Contents", ()):
            yield item["Key"], item["ETag"].strip('"'), item["Size"]
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def pyarrow_filesystem() -> pyarrow.fs.FileSystem:
    """Return pyarrow's own S3 filesystem, with the same endpoint."""
    url = urlsplit(endpoint() or "")
    server = {"endpoint_override": url.netloc + url.path, "scheme": url.scheme}
    place = server if url.netloc else {}
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
