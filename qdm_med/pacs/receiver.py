"""Receiving side of a DICOM node: who may come in, and how instances are answered (PS3.4 annexes A and B)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]  # made at import

from qdm_med.errors import ConfigError, SeriesError
from qdm_med.io.dicom.header import READABLE_SYNTAXES
from qdm_med.pacs.addresses import Caller
from qdm_med.pacs.spool import Spool

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
"""Answers to C-STORE (PS3.4 table B.2-1)."""
REJECTED, BY_THE_USER, CALLER_UNKNOWN = 1, 1, 3
"""Answer to a caller that is not on the list (PS3.8 table 9-21)."""


@dataclass(frozen=True)
class Door:
    """Address on which a node listens, and the callers that it admits.

    Attributes:
        title: Our own application entity title; an association must be meant for it.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        callers: Who may come in.
    """

    title: str
    host: str
    port: int
    callers: tuple[Caller, ...]

    def admits(self, title: str, address: str) -> bool:
        """Whether a caller of this title may come from this address."""
        plain = address.removeprefix("::ffff:")  # how a socket for IPv6 writes an address of IPv4
        return any(title == caller.title and plain in caller.addresses for caller in self.callers)


@dataclass
class _Arrivals:
    """Arrivals over the open associations, and the time at which each series last grew."""

    by_association: dict[Any, set[str]] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)


class Receiver:
    """Receiver of associations: while its ``with`` block lasts, it keeps what they bring in a spool.

    Args:
        door: Address to listen on, and the callers that are admitted.
        spool: Spool that keeps the instances.
        report: Told of what was refused, in lines without patient data.

    Raises:
        ConfigError: If the address cannot be listened at.
    """

    def __init__(self, door: Door, spool: Spool, *, report: Callable[[str], None]) -> None:
        self._door, self._spool, self._report = door, spool, report
        self._arrivals, self._lock = _Arrivals(), threading.Lock()
        self._started = time.monotonic()
        entity = ApplicationEntity(ae_title=door.title)
        entity.require_called_aet = True
        entity.require_calling_aet = [caller.title for caller in door.callers]
        entity.add_supported_context(Verification)
        entity.add_supported_context(CTImageStorage, list(READABLE_SYNTAXES))
        handlers: Sequence[Any] = [(evt.EVT_REQUESTED, self._admit), (evt.EVT_C_STORE, self._store)]
        self._server: Any
        try:
            self._server = entity.start_server((door.host, door.port), block=False, evt_handlers=list(handlers))
        except OSError as error:
            raise ConfigError(
                f"{door.host}:{door.port}: cannot listen there ({error.strerror}); choose another --host or --port"
            ) from error
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        """Begin to listen."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; open associations are aborted."""
        self._server.shutdown()

    def settled(self, seconds: float) -> list[str]:
        """Series that no open association is adding to, and that have not grown for ``seconds``.

        Nodes that open an association for every image, or come back after one that broke, are thus waited for.
        """
        now = time.monotonic()
        with self._lock:
            brought = self._arrivals.by_association
            for association in [each for each in brought if not each.is_alive()]:
                for series in brought.pop(association):
                    self._arrivals.last[series] = now
            busy = set().union(*brought.values())
            waiting = [series for series in self._spool.receiving() if series not in busy]
            self._arrivals.last = {each: self._arrivals.last.get(each, self._started) for each in waiting}
            return [each for each, last in self._arrivals.last.items() if now - last >= seconds]

    def _admit(self, event: Any) -> None:
        caller = event.assoc.requestor
        title = str(caller.primitive.calling_ae_title).strip()
        if self._door.admits(title, caller.address):
            return
        self._report(f"refused a caller from {caller.address}: neither known nor allowed with --allow")
        event.assoc.acse.send_reject(REJECTED, BY_THE_USER, CALLER_UNKNOWN)
        event.assoc.kill()

    def _store(self, event: Any) -> int:
        request, content = event.request, event.encoded_dataset()
        sop_class, sop_uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        try:
            with self._lock:  # so that no one sees the series in the spool and not that this association brings it
                series = self._spool.take(content, sop_class=sop_class, sop_uid=sop_uid)
                self._arrivals.by_association.setdefault(event.assoc, set()).add(series)
        except SeriesError as error:
            self._report(f"refused an instance: {error}")
            return CANNOT_UNDERSTAND
        except OSError as error:
            self._report(f"could not keep an instance ({error.strerror}): free the disk of --spool")
            return OUT_OF_RESOURCES
        return SUCCESS
