"""The one object in a multipart answer (PS3.18 8.6.1.2), byte for byte."""

from email.message import Message


class CutOffError(Exception):
    """The answer ended before its end."""


def only_part(body: bytes | bytearray, content_type: str) -> bytes:
    """Return the body of the only part; of an answer without parts, which some send, all of it.

    Raises:
        ValueError: it is another kind of answer.
        CutOffError: the last boundary is missing.
    """
    message = Message()
    message["Content-Type"] = content_type
    kind, boundary = message.get_content_type(), message.get_boundary()
    if kind == "application/dicom":
        return bytes(body)
    if kind != "multipart/related" or not boundary:
        raise ValueError("no DICOM object")
    edge = b"--" + boundary.encode()
    first, last = body.find(edge), body.rfind(b"\r\n" + edge + b"--")
    begin = body.find(b"\r\n\r\n", max(first, 0)) + 4
    if first < 0 or begin < 4 or last < begin:
        raise CutOffError
    return bytes(memoryview(body)[begin:last])
