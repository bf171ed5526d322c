"""Transfer over a DICOM association (PS3.4 annex B, C-STORE)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pynetdicom
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.status import code_to_category

from qdm_med.errors import TransferError
from qdm_med.io.dicom.file import read_dataset, shown, uid_name
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.pixels import decompressed, is_compressed
from qdm_med.pacs.addresses import Node

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
SECONDS = 30.0
"""Patience with the other node: for its connection, and for each of its answers."""
LARGEST_CONTEXTS = 128
"""Presentation contexts have odd numbers up to 255 (PS3.8 9.3.2.2)."""

pynetdicom._config.STORE_SEND_CHUNKED_DATASET = True  # files go out as the bytes that they are, in bounded memory

Context = tuple[str, str]
"""SOP Class UID and Transfer Syntax UID."""


def store_by_association(
    headers: Sequence[SliceHeader], node: Node, *, title: str, progress: Callable[[int, int], None]
) -> None:
    """Send instances, all over one association; when this returns, the node has answered for every one.

    An instance goes out in the encoding of its file if the node takes that; else uncompressed, Explicit VR or, which every
    node must take (PS3.5 10.1), Implicit VR.

    Args:
        headers: Headers of the instances to send.
        node: Node that takes them.
        title: Our own application entity title.
        progress: Told of instances done and in all.

    Raises:
        TransferError: If the node cannot be reached, refuses the association or an encoding, or fails to store.
    """
    association = _associate(_contexts(headers), node, title)
    try:
        accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in association.accepted_contexts
        }
        for header in headers:
            _require_accepted(header, accepted, node)
        for done, header in enumerate(headers, start=1):
            _store(association, header, accepted, node)
            progress(done, len(headers))
        association.release()
    finally:
        if association.is_established:
            association.abort()


def _contexts(headers: Sequence[SliceHeader]) -> list[Context]:
    contexts = {(header.sop_class, header.transfer_syntax) for header in headers}
    contexts |= {
        (sop_class, uncompressed)
        for sop_class, syntax in contexts
        if syntax == EXPLICIT or is_compressed(syntax)
        for uncompressed in (EXPLICIT, IMPLICIT)
    }
    if len(contexts) > LARGEST_CONTEXTS:
        raise TransferError(f"{len(contexts)} kinds of objects and encodings, an association has 128; send them apart")
    return sorted(contexts)


def _associate(contexts: list[Context], node: Node, title: str) -> Association:
    entity = ApplicationEntity(ae_title=title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = SECONDS
    for sop_class, syntax in contexts:
        entity.add_requested_context(sop_class, syntax)
    try:
        association = entity.associate(node.host, node.port, ae_title=node.title)
    except OSError as error:  # of a name that no machine has
        raise TransferError(f"{node}: cannot be reached ({error.strerror}); check host and port") from error
    if association.is_established:
        return association
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        raise TransferError(
            f"{node}: refused the association ({answer.reason_str}); check the titles, and let it know {title}"
        )
    if association.rejected_contexts:
        offered = sorted({uid_name(syntax) for _, syntax in contexts})
        raise TransferError(
            f"{node}: takes {' and '.join(sorted({uid_name(sop_class) for sop_class, _ in contexts}))} in none of the offered "
            f"transfer syntaxes ({', '.join(offered)}); allow one there"
        )
    raise TransferError(f"{node}: cannot be reached or is no DICOM node; check host and port")


def _encoding(header: SliceHeader, accepted: set[Context]) -> str | None:
    """Choose the transfer syntax in which an instance goes out; ``None`` if the node takes none that we can write."""
    ours = [header.transfer_syntax]
    if header.transfer_syntax == EXPLICIT or is_compressed(header.transfer_syntax):
        ours += [EXPLICIT, IMPLICIT]
    return next((syntax for syntax in ours if (header.sop_class, syntax) in accepted), None)


def _require_accepted(header: SliceHeader, accepted: set[Context], node: Node) -> None:
    if _encoding(header, accepted) is None:
        raise TransferError(
            f"{shown(header.path)}: {node} does not take {uid_name(header.sop_class)} in "
            f"{uid_name(header.transfer_syntax)}; write it with another --transfer-syntax"
        )


def _content(header: SliceHeader, accepted: set[Context]) -> Any:
    """Content for the association: the file as it is, or its data set to be written anew."""
    if _encoding(header, accepted) == header.transfer_syntax:
        return header.path
    return decompressed(header.path) if is_compressed(header.transfer_syntax) else read_dataset(header.path)


def _store(association: Association, header: SliceHeader, accepted: set[Context], node: Node) -> None:
    content = _content(header, accepted)
    try:
        answer = association.send_c_store(content)
    except (RuntimeError, ValueError, AttributeError, OSError) as error:  # the association or the file went away
        raise TransferError(
            f"{shown(header.path)}: {node} could not be sent it ({type(error).__name__}); send again"
        ) from error
    status = answer.get("Status")
    if status is None:
        raise TransferError(f"{shown(header.path)}: {node} gave no answer or closed the connection; send again")
    if code_to_category(status) not in ("Success", "Warning"):
        raise TransferError(
            f"{shown(header.path)}: {node} did not store it (status 0x{status:04X}); see the log of that node"
        )
