"""Fail in every way that Python prints."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import traceback
import warnings


def attempt(code: str) -> None:
    """Run code in a Python of its own, so that the interpreter itself prints the traceback."""
    print("== next", flush=True)
    subprocess.run([sys.executable, "-c", code], check=False)
    print("came back", flush=True)


warnings.warn("the option is gone", DeprecationWarning, stacklevel=1)
warnings.warn("mind the gap", UserWarning, stacklevel=1)
warnings.warn("slow path", RuntimeWarning, stacklevel=1)
warnings.warn_explicit("this feature may change", FutureWarning, "model.py", 12)
warnings.warn("several\nlines of warning", UserWarning, stacklevel=1)
print("== prints", flush=True)
with contextlib.suppress(ValueError):
    int("x")
try:
    int("x")
except ValueError as error:
    print(f"caught: {error}", flush=True)
    print(error, flush=True)
    print(repr(error), flush=True)
    traceback.print_exc()
    print("went on", flush=True)
attempt("raise ValueError('boom')")
attempt("raise ValueError('two\\nlines')")
attempt("raise KeyError")
attempt("raise SystemExit('bye')")
attempt("raise KeyboardInterrupt")
attempt(
    "def f(): raise OSError(2, 'No such file', 'a.txt')\ntry:\n  f()\nexcept OSError as e:\n  raise RuntimeError('outer') from e"
)
attempt("try:\n  1/0\nexcept ZeroDivisionError:\n  {}['x']")
attempt("e = ValueError('with a note'); e.add_note('a note'); raise e")
attempt(
    "raise ExceptionGroup('several', [ValueError('one'), ExceptionGroup('inner', [TypeError('two'), KeyError('k')])])"
)
attempt("def f(n): return f(n + 1)\nf(0)")
attempt("x = = 1")
attempt("import nowhere_to_be_found")
attempt("import json; json.loads('{')")
attempt("class Odd(Exception): pass\nraise Odd")
attempt("class A:\n  def __del__(self): raise ValueError('in del')\nA()\nprint('still here')")
attempt("import atexit\natexit.register(lambda: 1/0)")
attempt("import faulthandler, os, signal; faulthandler.enable(); os.kill(os.getpid(), signal.SIGSEGV)")
attempt(
    "import asyncio\nasync def f(): raise ValueError('lost')\nasync def m():\n  t = asyncio.ensure_future(f()); await asyncio.sleep(0); del t; import gc; gc.collect(); await asyncio.sleep(0)\nasyncio.run(m())"
)
attempt(
    "from concurrent.futures import ProcessPoolExecutor as P\nif __name__ == '__main__':\n  print(list(P(1).map(int, ['x'])))"
)
attempt("assert 1 == 2, 'they differ'")
attempt("raise type('Error', (Exception,), {'__module__': 'my.pkg'})('own module')")
thread = threading.Thread(target=lambda: {}["thread"], name="loader")
thread.start()
thread.join()
asyncio.run(asyncio.sleep(0))
print("the end", flush=True)
