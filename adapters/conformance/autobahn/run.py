"""Runs the cases of the Autobahn test suite against a WebSocket echo.

Prints a line of JSON for each case as it ends, and one about all of them at the end. The exit status
is 0 if every case ended as it should.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass

from cases import SECTIONS, load, section_of
from peer import Peer

# Where the text of a frame becomes invalid long before the frame ends. The strict notice at once; a
# server that looks at whole frames, as ours does, notices when it has all of it.
NON_STRICT = ("6.4.3", "6.4.4")

# Long messages keep this process busy. Other cases look at what happens in a second, and must not
# find that it has passed before they wrote.
HEAVY = "9"


@dataclass
class Outcome:
    case: str
    behavior: str
    close: str
    result: str
    seconds: float

    @property
    def is_accepted(self):
        allowed = ("OK", "INFORMATIONAL", *(["NON-STRICT"] if self.case in NON_STRICT else []))
        return self.behavior in allowed and self.close in ("OK", "INFORMATIONAL")


async def play(name, case_class, options):
    """Plays one case."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(options.case_limit):
            case = await Peer(options.patience).run((options.host, options.port), options.path, case_class)
        ended = case.behavior, case.behaviorClose, f"{case.result} {case.resultClose}"
    except* Exception as errors:
        # Most come alone, from a group of tasks.
        ended = "ERROR", "ERROR", "; ".join(repr(error) for error in errors.exceptions)
    return Outcome(name, *ended, round(time.monotonic() - start, 3))


async def play_all(options, report):
    """Plays the cases of the sections that are asked for; returns how each of them ended, by name."""
    chosen = {name: case for name, case in load(Peer).items() if section_of(name) in options.sections}
    light = [name for name in chosen if section_of(name) != HEAVY]
    heavy = [name for name in chosen if section_of(name) == HEAVY]
    places = asyncio.Semaphore(options.parallel)
    outcomes = {}

    def ended(outcome):
        outcomes[outcome.case] = outcome
        report(outcome)

    async def in_turn(name):
        async with places:
            ended(await play(name, chosen[name], options))

    try:
        async with asyncio.timeout(options.limit):
            for batch in (light, heavy):
                async with asyncio.TaskGroup() as tasks:
                    for name in batch:
                        tasks.create_task(in_turn(name))
    except TimeoutError:
        for name in chosen.keys() - outcomes.keys():
            ended(Outcome(name, "TIMEOUT", "TIMEOUT", "all of them took too long", options.limit))
    return outcomes


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/ws")
    parser.add_argument("--sections", type=lambda names: names.split(","), default=SECTIONS)
    parser.add_argument("--parallel", type=int, default=16, help="how many cases are played at once")
    parser.add_argument("--patience", type=float, default=1, help="multiplies the deadlines of the cases")
    parser.add_argument("--case-limit", type=float, default=60, help="seconds that a case may take")
    parser.add_argument("--limit", type=float, default=120, help="seconds that all of them may take")
    return parser.parse_args(arguments)


def main():
    def report(outcome):
        print(json.dumps({**asdict(outcome), "accepted": outcome.is_accepted}), flush=True)

    options, start = parse(), time.monotonic()
    outcomes = asyncio.run(play_all(options, report)).values()
    refused = sum(not outcome.is_accepted for outcome in outcomes)
    summary = {
        "cases": len(outcomes),
        "refused": refused,
        "behaviors": Counter(outcome.behavior for outcome in outcomes),
        "closes": Counter(outcome.close for outcome in outcomes),
        "seconds": round(time.monotonic() - start, 1),
    }
    print(json.dumps(summary), flush=True)
    raise SystemExit(min(refused, 1))


if __name__ == "__main__":
    main()
