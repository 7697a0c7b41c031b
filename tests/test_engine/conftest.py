"""Several processes."""

import pytest
import torch
import torch.distributed as dist

from tests.processes import run_group


@pytest.fixture
def group(tmp_path):
    """Calls a function, which asserts, with the rank of each of several processes."""

    def run(function, world_size=2):
        def process():
            torch.set_num_threads(1)
            dist.init_process_group('gloo')
            function(dist.get_rank())
            dist.destroy_process_group()

        run_group(process, tmp_path / 'log', world_size)

    return run
