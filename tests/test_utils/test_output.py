"""Standard output that cannot be written."""

import os
import subprocess
import sys

import pytest

CODE = """
import os
from mmmim.utils.output import keep_writing
keep_writing()
for _ in range(10_000):
    print('a line')
os.write(2, b'end')
"""


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_full_disk():
    with open('/dev/full', 'w') as full:
        done = subprocess.run([sys.executable, '-c', CODE], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, 'WARNING: the output cannot be written: no space left on device.\nend')


def test_a_reader_that_is_gone():
    process = subprocess.Popen([sys.executable, '-c', CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == 'WARNING: the output cannot be written: broken pipe.\nend'
    assert process.wait() == 0
