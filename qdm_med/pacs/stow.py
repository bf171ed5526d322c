"""Send instances to a DICOMweb service (PS3.18 10.5, STOW-RS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dicomweb_client.web import DICOMwebClient
from requests.exceptions import HTTPError, RequestException

from qdm_med.errors import TransferError
from qdm_med.io.dicom.file import read_dataset, shown
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.pacs.addresses import WebService

SECONDS = (10.0, 60.0)
"""Patience with the service: for its connection, and for each of its answers."""


def store_by_web(headers: Sequence[SliceHeader], service: WebService, *, progress: Callable[[int, int], None]) -> None:
    """Send instances one by one, so that memory holds one; when this returns, the service has answered for every one.

    User and password, where it wants them, come from ``~/.netrc``.

    Args:
        headers: What to send.
        service: Where to.
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
    dataset = read_dataset(header.path)
    try:
        answer: Any = client.store_instances([dataset])
    except HTTPError as error:
        code = error.response.status_code if error.response is not None else "without a status"
        raise TransferError(
            f"{shown(header.path)}: {service} did not store it (HTTP {code}); see the log of that service"
        ) from error
    except RequestException as error:
        raise TransferError(f"{service}: cannot be reached ({type(error).__name__}); check the URL") from error
    except Exception as error:  # an answer that is neither DICOM JSON nor XML, reported in many ways
        raise TransferError(f"{service}: gave no answer of a DICOMweb service; check the URL") from error
    failed = [*(answer.get("FailedSOPSequence") or []), *(answer.get("OtherFailuresSequence") or [])]
    if failed:
        reason = failed[0].get("FailureReason") or 0
        raise TransferError(
            f"{shown(header.path)}: {service} did not store it (reason 0x{reason:04X}); see the log of that service"
        )
