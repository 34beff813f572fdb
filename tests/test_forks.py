"""A child that is forked while another thread of the parent computes goes on by itself."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tql.forks import ForkLock

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Each script runs `hold(entered, leave)` in a thread, which enters a lock, says so and stays in it;
# the child, forked meanwhile, must print what `ask()` gives. A child that hangs is ended by SIGALRM.
FORK = """
entered, leave = threading.Event(), threading.Event()
thread = threading.Thread(target=hold, args=(entered, leave))
thread.start()
assert entered.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    print(ask(), flush=True)
    os._exit(0)
status = os.waitpid(pid, 0)[1]
leave.set()
thread.join()
sys.exit(status != 0)
"""

LOCK = """
import os, signal, sys, threading
from tql.forks import ForkLock
lock = ForkLock()
def hold(entered, leave):
    with lock:
        entered.set()
        leave.wait(60)
def ask():
    free = not lock.locked()
    with lock:
        return free and lock.locked()
"""

PLAN = """
import os, signal, sys, threading
import numpy as np
from tql import rowset
from tql.planner import make_plan, plan as module
from tql.weights import RowWeights
plan = make_plan(rowset.everything(9), RowWeights(np.arange(9.0)), replace=False, size=8)
stream = plan.stream(batch_size=8)
parent, take = os.getpid(), module.take
def hold(entered, leave):
    def slow(*args):
        if os.getpid() == parent:
            entered.set()
            leave.wait(60)
        return take(*args)
    module.take = slow
    stream.batch(0)
def ask():
    return sorted(stream.batch(0).rows.tolist()) == sorted(plan.ids().tolist())
"""

KERNEL = """
import os, signal, sys, threading
import numpy as np
from tql import jit
from tql.planner.draw import SUM_UNITS
from tql.planner.rng import PAIRS
real = jit._numba_ir
def hold(entered, leave):
    def announced(k):
        entered.set()
        return real(k)
    jit._numba_ir = announced
    SUM_UNITS(np.ones(3), 1.0, 1.0, np.zeros(1, np.uint64))
def ask():
    out = np.zeros(1, np.uint64)
    SUM_UNITS(np.ones(3), 1.0, 1.0, out)
    PAIRS(np.zeros(3, np.uint64), np.arange(1), np.zeros(1, np.uint64), np.zeros(1, np.uint64))
    return int(out[0]) == 3
"""


@pytest.mark.parametrize("script", [LOCK, PLAN, KERNEL], ids=["lock", "plan", "kernel"])
def test_a_child_forked_while_a_lock_is_held_does_not_hang(script: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TQL_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script + FORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_lock_that_travels_to_another_process_arrives_open() -> None:
    lock = ForkLock()
    with lock:
        assert lock.locked() and not pickle.loads(pickle.dumps(lock)).locked()
