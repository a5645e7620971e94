"""What a request to the exchange costs beside the network."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

_PROGRAM = """
import sys
import infra.net.http
from httpcore._synchronization import current_async_library

class Search:
    def find_spec(name, path, target=None):
        print("searched for", name)

sys.meta_path.insert(0, Search)
print(current_async_library())
"""


@pytest.mark.skipif(find_spec("sniffio") is not None, reason="it is installed here, so it is found")
def test_no_request_searches_the_disk_for_a_module_that_is_not_installed() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "asyncio\n"
