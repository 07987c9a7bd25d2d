"""One entity out of a federation's metadata: our import beside lxml's bare iterparse, on the same bytes.

Run it from anywhere: `.venv/bin/python bench/metadata.py [ENTITIES]`. Each figure comes from a process of its own: the
best of three times, and the peak of resident memory, which includes the document itself. Linux only (`/proc`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

ENTITIES = 5000
TAG = "{urn:oasis:names:tc:SAML:2.0:metadata}EntityDescriptor"


def plain(data: bytes, entity_id: str) -> None:
    """What a program does that checks nothing: iterparse, look for one name, free each entity."""
    from lxml import etree  # the other figure must not pay for it

    found = 0
    for _, entity in etree.iterparse(BytesIO(data), events=("end",), tag=TAG):
        found += entity.get("entityID") == entity_id
        entity.clear()
        parent = entity.getparent()
        while parent is not None and entity.getprevious() is not None:
            del parent[0]
    assert found == 1


def ours(data: bytes, entity_id: str) -> None:
    """The import with all its refusals."""
    from idp_certs.metadata import parse_metadata

    (found,) = parse_metadata(data, entity_id=entity_id)
    assert found.signing_certificates


def measure(name: str, path: Path, entity_id: str) -> None:
    """Print the milliseconds and the peak in MB."""
    data = path.read_bytes()
    best = float("inf")
    for _ in range(3):
        start = perf_counter()
        {"plain": plain, "ours": ours}[name](data, entity_id)
        best = min(best, perf_counter() - start)
    # Not ru_maxrss: that starts from the peak of the process which started this one.
    state = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in state.splitlines() if line.startswith("VmHWM:"))
    print(f"{best * 1000:.0f} {peak / 1000:.0f}")


def main(arguments: list[str]) -> int:
    """Print both, and the ratio of their times."""
    if len(arguments) == 3:
        measure(arguments[0], Path(arguments[1]), arguments[2])
        return 0
    from tests.metadata.aggregates import federation, name_of

    entities = int(arguments[0]) if arguments else ENTITIES
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "federation.xml")
        path.write_bytes(federation(entities))
        print(f"{path.stat().st_size / 1e6:.1f} MB, {entities} IdPs")
        for name in ("plain", "ours"):
            command = [sys.executable, __file__, name, str(path), name_of(entities // 2)]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            figures[name] = [float(each) for each in ran.stdout.split()]
            print(f"{name:6} {figures[name][0]:6.0f} ms  {figures[name][1]:5.0f} MB peak")
    print(f"ratio  {figures['ours'][0] / figures['plain'][0]:6.2f} of the time")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
