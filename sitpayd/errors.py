"""Errors of the daemon. The protocol package has its own base, since it stands alone."""

from __future__ import annotations


class SitpaydError(Exception):
    """Base of every error of sitpayd outside `whatsapp`."""


class ConfigurationError(SitpaydError):
    """The configuration cannot be used; the message is one line: the key and its source."""


class StorageError(SitpaydError):
    """The database did not do what was asked; nothing of the operation is stored."""


class StorageFullError(StorageError):
    """The disk, or the database's share of it, is full. It recovers when there is room again."""


class StorageBusyError(StorageError):
    """Another process holds the database, or too much waits for it. Trying again may help."""


class SealError(StorageError):
    """A sealed value does not open: it is damaged, moved to another row, or of another secret."""


class DatabaseUnusableError(StorageError):
    """The database cannot be opened: a wrong URL, a missing right, or a foreign schema."""


class DatabaseLockedError(DatabaseUnusableError):
    """Another process owns this database."""


class DatabaseExposedError(DatabaseUnusableError):
    """A database file may be read or written by other users of this machine."""


class DatabaseCorruptError(DatabaseUnusableError):
    """The database is damaged. It is never replaced by an empty one."""


class SchemaTooNewError(DatabaseUnusableError):
    """The database was migrated by a newer version of sitpayd."""


class WrongSecretError(DatabaseUnusableError):
    """The database was sealed with another secret."""
