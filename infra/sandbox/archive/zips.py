"""The bytes of archive files: whole and damaged ZIPs."""

import io
import zipfile


def build_zip(name: str, csv: str) -> bytes:
    """A ZIP with one CSV of the same stem. Deterministic: equal input gives equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        member = zipfile.ZipInfo(name.removesuffix(".zip") + ".csv", date_time=(2020, 1, 1, 0, 0, 0))
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, csv)
    return content.getvalue()


def corrupt(content: bytes) -> bytes:
    """`content` with its middle bytes inverted: it opens as a ZIP and fails its CRC or decompression."""
    middle, width = len(content) // 2, min(64, len(content) // 4)
    flipped = bytes(byte ^ 0xFF for byte in content[middle : middle + width])
    return content[:middle] + flipped + content[middle + width :]
