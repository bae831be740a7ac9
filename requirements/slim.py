"""Make an environment smaller, for the image: python slim.py DIRECTORY.

From shared libraries it takes what the loader never reads: symbols for debuggers, half of all bytes. It needs no
binutils, which base images lack, and the result depends on the libraries alone. From kubernetes_asyncio it takes the
models and APIs that `webhook.kube.lean` does not import.
"""

import struct
import sys
from pathlib import Path

# ELF of 64 bits, little-endian: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
_MAGIC = b"\x7fELF\x02\x01"
# phoff, shoff, flags, ehsize, phentsize, phnum, shentsize, shnum, shstrndx
_PROGRAM_HEADERS = struct.Struct("<QQIHHHHHH")
_AT = 32
_SEGMENT = struct.Struct("<IIQQQQ")  # type, flags, offset, vaddr, paddr, filesz

_KEPT = {
    "models": ("v1_lease", "v1_object_meta", "v1_owner_reference", "v1_managed_fields_entry"),
    "api": ("coordination_v1_api",),
}


def main() -> None:
    """Slim the directory that the arguments name."""
    root = Path(sys.argv[1])
    before = _size(root)
    for path in sorted(root.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            loaded = strip(content)
            if len(loaded) < len(content):
                path.write_bytes(loaded)
    for client in root.rglob("kubernetes_asyncio/client"):
        prune(client)
    sys.stdout.write(f"{root}: {before >> 20} MB, now {_size(root) >> 20} MB\n")


def strip(content: bytes) -> bytes:
    """Return a shared library without sections, which only linkers and debuggers read; anything else as it is."""
    if not content.startswith(_MAGIC):
        return content
    phoff, _, flags, ehsize, phentsize, phnum, shentsize, _, _ = _PROGRAM_HEADERS.unpack_from(content, _AT)
    end = phoff + phentsize * phnum
    for index in range(phnum):
        _, _, offset, _, _, size = _SEGMENT.unpack_from(content, phoff + phentsize * index)
        end = max(end, offset + size)
    header = _PROGRAM_HEADERS.pack(phoff, 0, flags, ehsize, phentsize, phnum, shentsize, 0, 0)
    return content[:_AT] + header + content[_AT + len(header) : end]


def prune(client: Path) -> None:
    """Remove the modules of a library's package `client` that nothing imports, but the packages themselves."""
    for package, kept in _KEPT.items():
        for path in (client / package).glob("*.py"):
            if path.stem != "__init__" and not path.stem.startswith(kept):
                path.unlink()
    for package in ("kubernetes_asyncio/e2e_test", "kubernetes_asyncio/test"):
        for path in sorted((client.parents[1] / package).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def _size(root: Path) -> int:
    return sum(path.lstat().st_size for path in root.rglob("*"))


if __name__ == "__main__":
    main()
