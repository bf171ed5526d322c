"""Transfer to a DICOMweb service (PS3.18 10.5, STOW-RS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dicomweb_client.web import DICOMwebClient
from requests.exceptions import HTTPError, RequestException

from qdm_med.errors import TransferError
from qdm_med.io.dicom.file import read_dataset, shown, uid_name
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.pixels import decompressed, is_compressed
from qdm_med.pacs.addresses import WebService

SECONDS = (10.0, 60.0)
"""Patience with the service: for its connection, and for each of its answers."""
UNSUPPORTED_MEDIA, SYNTAX_NOT_SUPPORTED = 415, 0xC122
"""Failure reason where the encoding is at fault (PS3.18 10.5.3.2, table I.2-2)."""


def store_by_web(headers: Sequence[SliceHeader], service: WebService, *, progress: Callable[[int, int], None]) -> None:
    """Send instances one by one, so that memory holds one; when this returns, the service has answered for every one.

    User and password, where it wants them, come from ``~/.netrc``.

    Args:
        headers: Headers of the instances to send.
        service: Web service that takes them.
        progress: Told of instances done and in all.

    Raises:
        TransferError: If the service cannot be reached, refuses, or fails to store.
    """
    try:
        client = DICOMwebClient(service.url, timeout=SECONDS)
    except ValueError as error:
        raise TransferError(f"{service}: is no URL of a DICOMweb service; check it") from error
    client.set_http_retry_params(retry=False)
    for done, header in enumerate(headers, start=1):
        _store(client, header, service)
        progress(done, len(headers))


def _store(client: DICOMwebClient, header: SliceHeader, service: WebService) -> None:
    try:
        _store_once(client, read_dataset(header.path), header, service)
    except _EncodingRefusedError:
        if not is_compressed(header.transfer_syntax):
            raise
        _store_once(client, decompressed(header.path), header, service)


class _EncodingRefusedError(TransferError):
    """Refusal of a transfer syntax by the service."""


def _store_once(client: DICOMwebClient, dataset: Any, header: SliceHeader, service: WebService) -> None:
    try:
        answer: Any = client.store_instances([dataset])
    except HTTPError as error:
        response = error.response
        code = response.status_code if response is not None else "without a status"
        refused = code == UNSUPPORTED_MEDIA or (response is not None and _named_syntax(response))
        raise _not_stored(header, service, dataset, f"HTTP {code}", encoding=refused) from error
    except RequestException as error:
        raise TransferError(f"{service}: cannot be reached ({type(error).__name__}); check the URL") from error
    except Exception as error:  # an answer that is neither DICOM JSON nor XML, reported in many ways
        raise TransferError(f"{service}: gave no answer of a DICOMweb service; check the URL") from error
    failed = [*(answer.get("FailedSOPSequence") or []), *(answer.get("OtherFailuresSequence") or [])]
    if failed:
        reason = failed[0].get("FailureReason") or 0
        raise _not_stored(header, service, dataset, f"reason 0x{reason:04X}", encoding=reason == SYNTAX_NOT_SUPPORTED)


def _named_syntax(response: Any) -> bool:
    """Whether an answer that the client took for an error names the transfer syntax as its reason."""
    try:
        failures = response.json()["00081198"]["Value"]
        return any(SYNTAX_NOT_SUPPORTED in one["00081197"]["Value"] for one in failures)
    except (ValueError, KeyError, TypeError):
        return False


def _not_stored(header: SliceHeader, service: WebService, dataset: Any, why: str, *, encoding: bool) -> TransferError:
    place = f"{shown(header.path)}: {service} did not store it ({why})"
    if not encoding:
        return TransferError(f"{place}; see the log of that service")
    syntax = uid_name(str(dataset.file_meta.TransferSyntaxUID))
    return _EncodingRefusedError(f"{place}: it does not take {syntax}; see the log of that service")
