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
from tql.planner import computing as module, make_plan
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

# `first` is asked in the thread, where what it computes goes slowly; `second`, of the same class, in
# the child. They are two objects: what is to be kept of one must not hold up another.
KEPT = """
import os, signal, sys, threading
import numpy as np
import tql, tql.chain, tql.dataset, tql.planning
from tql.sources.memory import MemorySource
parent, waits = os.getpid(), []
def slow(owner, name):
    real = getattr(owner, name)
    def slower(*args, **kwargs):
        if os.getpid() == parent and waits:
            entered, leave = waits.pop()
            entered.set()
            leave.wait(60)
        return real(*args, **kwargs)
    setattr(owner, name, slower)
def hold(entered, leave):
    waits.append((entered, leave))
    get(first)
def ask():
    return get(second) is not None
data = [tql.open({"x": np.arange(9) + k}) for k in range(2)]
"""
VIEWS = """
slow(MemorySource, "_fingerprint")
first, second = (d.query("select x where x > 3").source for d in data)
get = lambda source: source.fingerprint
"""
ROW_IDS = """
slow(tql.dataset, "identify")
first, second = (d.query("select x where x > 3") for d in data)
get = lambda view: view.row_ids
"""
LOADER = """
slow(tql.planning, "make_plan")
first, second = (d.dataloader().batch(2) for d in data)
get = lambda chain: len(chain) + len(chain.plan.ids())
"""
SAME_LOADER = LOADER + "second = first"
SAMPLES = """
slow(tql.dataset.Dataset, "pytorch")
first, second = data
get = lambda ds: ds[3]
"""

# Locks of whole modules: the thread is in the middle of what they guard.
FOOTERS = """
import os, signal, sys, threading
from types import SimpleNamespace
from tql.sources import footers
class Metadata:
    serialized_size = 9
class Slow(Metadata):
    @property
    def serialized_size(self):
        if os.getpid() == parent:
            entered.set()
            leave.wait(60)
        return 9
parent = os.getpid()
def hold(entered_, leave_):
    global entered, leave
    entered, leave = entered_, leave_
    footers._remember("slow", SimpleNamespace(metadata=Slow()))
def ask():
    footers._remember("own", SimpleNamespace(metadata=Metadata()))
    found = footers.remembered()
    counted = sum(footers._size(f) for f in found)
    return footers._recalled("own") is found[-1] and footers._remembered_bytes >= counted > 0
"""
TRYING = """
import os, signal, sys, threading
import numpy as np
import tql
from tql.engine import trying
parent = os.getpid()
class Slow(type(trying._FOUND)):
    def setdefault(self, *args):
        if os.getpid() == parent and waits:
            entered, leave = waits.pop()
            entered.set()
            leave.wait(60)
        return super().setdefault(*args)
waits, trying._FOUND = [], Slow()
tql.register_function(lambda x: x + 1, "next_one")
one, other = (tql.open({"x": np.arange(9)}) for _ in range(2))
def hold(entered, leave):
    waits.append((entered, leave))
    one.query("select next_one(x) as y")
def ask():
    return other.query("select next_one(x) as y where next_one(x) > 7").row_ids.tolist() == [7, 8]
"""
FUNCTIONS = """
import os, signal, sys, threading
import numpy as np
import tql
from tql.language import user_functions
parent = os.getpid()
class Slow(dict):
    def __setitem__(self, name, made):
        super().__setitem__(name, made)
        if os.getpid() == parent:
            entered.set()
            leave.wait(60)
user_functions._KNOWN = Slow()
def hold(entered_, leave_):
    global entered, leave
    entered, leave = entered_, leave_
    tql.register_function(abs, "plain")
def ask():
    tql.register_function(lambda x: x + 1, "next_one", returns=int)
    return tql.open({"x": np.arange(9)}).query("select * where next_one(x) > 8").row_ids.tolist() == [8]
"""

SCRIPTS = {
    "lock": LOCK,
    "plan": PLAN,
    "kernel": KERNEL,
    "view": KEPT + VIEWS,
    "row_ids": KEPT + ROW_IDS,
    "loader": KEPT + LOADER,
    "same loader": KEPT + SAME_LOADER,
    "samples": KEPT + SAMPLES,
    "footers": FOOTERS,
    "types of user functions": TRYING,
    "user functions": FUNCTIONS,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_child_forked_while_a_lock_is_held_does_not_hang(script: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TQL_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script + FORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_lock_that_travels_to_another_process_arrives_open() -> None:
    lock = ForkLock()
    with lock:
        assert lock.locked() and not pickle.loads(pickle.dumps(lock)).locked()


def test_a_lock_of_the_parent_is_open_in_a_child_of_a_child_whatever_number_it_has() -> None:
    """Numbers of processes are given again: a lock must not go by them."""
    script = (
        "import os; from tql.forks import ForkLock; real = os.getpid(); os.getpid = lambda: real\n"
        "lock = ForkLock(); lock.__enter__(); pid = os.fork()\n"
        "if pid == 0:\n    os._exit(int(lock.locked()))\n"
        "assert os.waitpid(pid, 0)[1] == 0 and lock.locked()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=60, check=True)
