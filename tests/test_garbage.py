"""Garbage collection of jobs: garbage is still found, only later; at the end nothing is looked through."""

import gc
import subprocess
import sys

from langmerge.garbage import SELDOM, without_collection

CYCLES = f"""
import atexit, gc, weakref
from langmerge.garbage import collect_seldom

class Node:
    pass

atexit.register(lambda: print("frozen", gc.get_freeze_count() > 1000))  # runs after what is registered later
collect_seldom()
node = Node()
node.itself = node
seen = weakref.ref(node)
del node
kept = [[] for _ in range({2 * SELDOM})]
print("found", seen() is None)
"""


def test_cycles_are_found_and_what_is_left_at_the_end_is_not_looked_through():
    ran = subprocess.run([sys.executable, "-c", CYCLES], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["found", "True", "frozen", "True"]


def test_collection_is_as_before_after_a_block_without():
    assert gc.isenabled()
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
