"""Two demos that start in the same second choose different ports."""

import subprocess
import sys

from dux_cli.demo.stage import free_port_base

CHOOSE = "from dux_cli.demo.stage import free_port_base; print(free_port_base(), flush=True); input()"


def test_a_block_that_somebody_has_chosen_is_not_chosen_again_until_that_process_ends() -> None:
    """Also before it listens; however it ends, the block is free again."""
    words = [sys.executable, "-c", CHOOSE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        theirs = int(first.stdout.readline())
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert int(second.stdout.readline()) != theirs
            second.kill()
        first.kill()
    again = subprocess.run(words, input="\n", capture_output=True, text=True, check=True)
    assert int(again.stdout) == theirs
    assert free_port_base() == free_port_base()
