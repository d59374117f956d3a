"""`python -m tests.faults --seed N [--runs K] [--lake local|s3|both]`: K seeds from N on, until one fails.

Each seed draws a lake, a schedule of faults and their moments (`schedule.py`); the embed job runs through
them on a real Ray cluster of several nodes, is started again whenever it has ended, and in the end every row
must be there once. A failing seed is printed with what was lost, and how to run it again.
"""
# ruff: noqa: T201

import argparse
import signal
import sys
import time

from tests.faults.schedule import draw, lake_of
from tests.faults.stage import Stage


def main() -> int:
    """Runs the seeds; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds")
    parser.add_argument("--lake", choices=("local", "s3", "both"), default="both", help="both take turns")
    parser.add_argument("--verbose", action="store_true", help="what happens, as it happens")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves the block below, which ends all
    began, faults = time.monotonic(), 0
    with Stage(verbose=options.verbose) as stage:
        for seed in range(options.seed, options.seed + options.runs):
            lake = lake_of(seed) if options.lake == "both" else options.lake
            schedule = draw(seed, lake)
            result = stage.play(schedule)
            faults += result.reached
            verdict = "; ".join(result.wrong) if result.wrong else "exact"
            print(
                f"seed {seed} {lake}: {schedule} | {result.chunks} chunks, {result.starts} starts, "
                f"{result.reached} of {len(schedule.faults)} faults came, {result.seconds:.1f} s | {verdict}"
                + "".join(f" | ended: {ending}" for ending in result.endings),
                flush=True,
            )
            if result.wrong:
                print(
                    f"seed {seed} FAILED: {verdict}\nagain: python -m tests.faults --seed {seed} "
                    f"--lake {lake} --verbose",
                    flush=True,
                )
                return 1
    print(f"{options.runs} seeds, {faults} faults, all exact, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
