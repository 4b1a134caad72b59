"""Jobs that write nothing on a real Ray, and what the provider says of them."""

from __future__ import annotations

from typing import NamedTuple

from tests.local.waiting_programs import IMPORTS

NODE = {"a": 4}
"""The resources of the node beside the head."""
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
NODE_NAME = r"node 127\.0\.0\.1(?: \[[0-9a-f]{8}\])?"
CPU = r"(?:\d+%|\d+% to \d+%)"


class Case(NamedTuple):
    """A job that writes nothing.

    :param parts: regular expressions for what is said to run, in order; none: the job goes on, and nothing is said.
    :param program: empty: a command that sleeps, and does not connect to Ray.
    :param frame: a frame of its Python stack; empty: it has none.
    """

    parts: tuple[str, ...]
    program: str = ""
    frame: str = ""

    @property
    def source(self) -> str:
        """The program with its imports."""
        return IMPORTS + self.program


def _running(what: str, *, many: bool = False, nodes: str = f"on {NODE_NAME}") -> str:
    first, process = ("the first ", "their processes") if many else ("", "its process")
    return f"{what}, {first}since {TIME}, {nodes}; CPU of {process}: {CPU}"


CASES: dict[str, Case] = {
    "tasks_that_hang": Case(
        (_running("2 tasks load_block", many=True),),
        """
@ray.remote(num_cpus=0)
def load_block(number):
    if number > 1: time.sleep(3600)
ray.get([load_block.remote(number) for number in range(4)])
""",
        r"load_block \(tasks_that_hang\.py:\d+\)",
    ),
    "actors_that_wait_for_each_other": Case(
        (_running("2 methods Player.pass_ball", many=True, nodes=f"on (?:2 nodes, the first on )?{NODE_NAME}"),),
        """
@ray.remote(num_cpus=0)
class Player:
    def meet(self, other): self.other = other
    def pass_ball(self): return ray.get(self.other.catch.remote())
    def catch(self): pass
one, two = Player.remote(), Player.remote()
ray.get([one.meet.remote(two), two.meet.remote(one)])
ray.get([one.pass_ball.remote(), two.pass_ball.remote()])
""",
        r"Player\.pass_ball \(actors_that_wait_for_each_other\.py:\d+\)",
    ),
    "a_task_that_waits_for_another": Case(
        (_running("1 task outer"), _running("1 task inner")),
        """
@ray.remote(num_cpus=0)
def inner(): time.sleep(3600)
@ray.remote(num_cpus=0)
def outer(): return ray.get(inner.remote())
ray.get(outer.remote())
""",
        r"outer \(a_task_that_waits_for_another\.py:\d+\)",
    ),
    "a_constructor_that_hangs": Case(
        # Ray tells neither its node nor its process.
        (rf"1 constructor Model\.__init__, since {TIME}(?:, on {NODE_NAME}.*)?",),
        """
@ray.remote(num_cpus=0)
class Model:
    def __init__(self): time.sleep(3600)
    def train(self): pass
ray.get(Model.remote().train.remote())
""",
    ),
    "a_task_that_calculates": Case(
        (_running("1 task train").replace(CPU, r"[1-9]\d*%"),),
        """
@ray.remote(num_cpus=0)
def train():
    while True: pass
ray.get(train.remote())
""",
        r"train \(a_task_that_calculates\.py:\d+\)",
    ),
    "coroutines_of_an_actor": Case(
        (_running("5 methods Server.serve", many=True).replace("their processes", "its process"),),
        """
import asyncio
@ray.remote(num_cpus=0)
class Server:
    async def serve(self, number): await asyncio.sleep(3600)
server = Server.remote()
ray.get([server.serve.remote(number) for number in range(5)])
""",
    ),
    "a_program_without_tasks": Case(
        ("no task, by Ray's list",), "time.sleep(3600)", r"<module> \(a_program_without_tasks\.py:\d+\)"
    ),
    "a_command_that_knows_no_ray": Case(("its program has not connected to Ray, which lists nothing of it",)),
    # These go on, and nothing is said of them.
    "tasks_without_a_word": Case(
        (),
        """
@ray.remote(num_cpus=0)
def step(number): time.sleep(0.3)
while True: ray.get([step.remote(number) for number in range(2)])
""",
    ),
    "dots_on_one_line": Case((), 'while True: print(".", end="", flush=True); time.sleep(0.5)'),
}
