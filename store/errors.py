"""The errors a caller can act on; misuse raises ValueError, TypeError or LookupError instead."""


class WorkbenchError(Exception):
    """Something in the workbench failed, and its sentence says what to do."""


class StoreError(WorkbenchError):
    """A store could not be opened, read or written."""


class NewerFormatError(StoreError):
    """A file was written by a later version of this program."""


class DamagedError(StoreError):
    """A published file is not what its record says it is."""


class UnwritableError(StoreError):
    """The disk or its permissions refused a write; nothing of that write is visible."""


class BusyError(StoreError):
    """Another process kept the catalog locked for longer than we wait."""
