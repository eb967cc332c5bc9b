import platform
import subprocess
import sys

import pytest

from bench.servers import ROOT

_PROGRAM = """
import resource
from sidecar.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def batch():
    return [b"x" * 300_000 for _ in range(10)]

assert not {kept} or keep_freed_memory()
for _ in range(2):
    batch()
before = faults()
for _ in range(20):
    batch()
print(faults() - before)
"""


def _page_faults(*, kept: bool) -> int:
    program = _PROGRAM.format(kept=kept)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switch is glibc's")
def test_the_memory_of_messages_is_faulted_in_once_and_not_with_every_batch() -> None:
    assert _page_faults(kept=True) < 1_000
    assert _page_faults(kept=False) > 10_000
