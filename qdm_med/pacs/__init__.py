"""Exchange with other DICOM nodes: series go to them and come from them. Needs the extra ``pacs``."""

from qdm_med.errors import ConfigError

try:
    import dicomweb_client  # noqa: F401 - an extra: the rest of the package works without it
    import pynetdicom  # noqa: F401
except ImportError:
    raise ConfigError(
        "send and listen need pynetdicom and dicomweb-client, the extra pacs: pip install 'qdm-med[pacs]'"
    ) from None
