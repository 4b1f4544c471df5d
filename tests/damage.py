"""What disks do to files, for tests."""

from pathlib import Path


def flip_byte(file: Path) -> None:
    """Turn over all bits of the byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
