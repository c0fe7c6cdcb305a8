"""Names that must not be guessed: sample ids, receipts, groups; and shares fixed by hash."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from fer.collection.storage import storage_error
from fer.errors import UnknownReceiptError
from fer.files import write_atomically

# Crockford's base 32: no letter that reads like a digit.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1"})
_RECEIPT_LENGTH = 16


def new_sample_id(now: datetime) -> str:
    """32 hexadecimal digits: milliseconds since 1970, then 80 random bits; sorts by time."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def id_floor(moment: datetime) -> str:
    """Smallest id that a sample kept at `moment` or later can have."""
    return f"{max(0, int(moment.timestamp() * 1000)):012x}" + "0" * 20


def new_receipt() -> str:
    """An 80-bit code to copy by hand, such as `7K3D-90QX-MZ1T-4WHB`."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_RECEIPT_LENGTH))
    return "-".join(code[i : i + 4] for i in range(0, _RECEIPT_LENGTH, 4))


def receipt_hash(code: str) -> str:
    """SHA-256 of a receipt, as 64 hexadecimal digits, however it was typed.

    Hyphens, spaces and case do not matter, O reads as 0 and I and L as 1. A plain hash is enough:
    80 random bits cannot be searched.

    Raises:
        UnknownReceiptError: it cannot be a receipt.
    """
    plain = "".join(c for c in code.upper() if c not in "- \t\r\n").translate(_MISREAD)
    if len(plain) != _RECEIPT_LENGTH or any(c not in _ALPHABET for c in plain):
        raise UnknownReceiptError("This is not a receipt of this collection.")
    return hashlib.sha256(plain.encode()).hexdigest()


def share_of(purpose: str, name: str) -> float:
    """A number in [0, 1) fixed by `name`, independent for each `purpose`.

    Group names are keyed hashes already, so that nobody outside can tell what theirs gives.
    """
    digest = hashlib.sha256(f"fer:{purpose}:{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class GroupKey:
    """Turns a session cookie into a group name that nobody can turn back.

    The key is replaced every month and the old one destroyed: what one visitor left in two
    months cannot be connected, not even by who holds the disk.

    Args:
        folder: where `group.key` lies, readable by its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "group.key"
        self._lock = FileLock(folder / ".group.lock", timeout=10, thread_local=False)
        self._month = ""
        self._key = b""

    def group_id(self, session_cookie: str, now: datetime) -> str:
        """32 hexadecimal digits.

        Raises:
            StorageError: the key cannot be read or written.
        """
        month = f"{now.astimezone(UTC):%Y-%m}"
        # A clock set back must not bring an older month's key into being again.
        if month > self._month:
            self._load(month)
        return hmac.new(self._key, session_cookie.encode(), hashlib.sha256).hexdigest()[:32]

    def _load(self, month: str) -> None:
        try:
            with self._lock:
                stored_month, key = self._read()
                if month > stored_month:
                    stored_month, key = month, secrets.token_bytes(32)
                    text = json.dumps({"month": stored_month, "key": key.hex()})
                    # Temporary files of `write_atomically` are 0600 from the start.
                    write_atomically(self._path, text.encode())
        except OSError as error:
            raise storage_error(error, "kept") from error
        self._key, self._month = key, stored_month

    def _read(self) -> tuple[str, bytes]:
        try:
            held = json.loads(self._path.read_text(encoding="utf-8"))
            return str(held["month"]), bytes.fromhex(held["key"])
        except FileNotFoundError:
            return "", b""
        except (ValueError, KeyError, TypeError):
            # Damaged: a new key only parts this month's visitors in two.
            return "", b""
