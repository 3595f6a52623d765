# SPDX-License-Identifier: Apache-2.0
"""
Lag against requests: ``python -m benchmarks.lag`` simulates hours of clips under three loads.

The bounds: the even sweep reads pages of 100 of those that wait, and only those, every ``poll_interval`` or as
fast as the rate allows; the oracle knows when each clip ends and pays one request for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from airflow_provider_wan.polling.decision import PAGE_SIZE
from airflow_provider_wan.polling.scheduler import MAX_PAGE_SIZE
from benchmarks.floor import ends, fewest
from benchmarks.report import save
from benchmarks.service import LOADS, Service
from benchmarks.simulate import Result, even_sweep, jobs_in_flight, oracle, ours, singles

POLL, RATE = 10.0, 5.0
HOURS = {100: 12.0, 1000: 3.0, 10000: 0.5}
QUICK_HOURS = {100: 0.5, 1000: 0.2, 10000: 0.02}
# Nothing counts while the run times of all kinds are learnt.
WARM = {"steady": 1800.0, "queued": 1800.0, "bursts": 3600.0}
FLOOR_HOURS, QUICK_FLOOR_HOURS = 1.5, 0.1
# What clients ask for by default, and what ours asks for where that takes several pages.
USUAL, LARGE = PAGE_SIZE, MAX_PAGE_SIZE
BOUND, OURS, OURS_USUAL = "even sweep (bound)", f"ours, pages up to {LARGE}", f"ours, pages up to {USUAL}"


def summarize(name: str, result: Result, sweep: Result, longest: float, clips: int) -> dict[str, Any]:
    return {
        "way": name,
        "lag_p50": round(result.lag(0.5), 2),
        "lag_p99": round(result.lag(0.99), 2),
        "requests": result.requests,
        "requests_per_clip": round(result.requests / clips, 3),
        "of_even_sweep_s_requests": round(result.requests / sweep.requests, 3),
        "p50_in_bounds": round(result.lag(0.5) / (longest / 2), 3),
        "p99_in_sweeps": round(result.lag(0.99) / longest, 3),
    }


def build_service(flight: int, load: str, seed: int, hours: float) -> Service:
    return Service(LOADS[load](flight, hours + WARM[load] / 3600, seed))


def simulate_ours(flight: int, load: str, seed: int, hours: float, page: int) -> Result:
    return ours(build_service(flight, load, seed, hours), WARM[load], POLL, RATE, largest=page)


def compare(
    flight: int, load: str, seed: int, hours: float, found: Mapping[int, Result], floor: float | None
) -> dict[str, Any]:
    """Compare our results, by the largest page, with the other strategies and with :func:`least`."""
    warm, service = WARM[load], build_service(flight, load, seed, hours)
    sweep, longest = even_sweep(service, warm, POLL, RATE)
    clips = len(sweep.lags)
    ways = [(BOUND, sweep)]
    for page, name in ((LARGE, OURS), (USUAL, OURS_USUAL)):
        if len(found[page].lags) != clips:
            raise RuntimeError(f"{clips - len(found[page].lags)} clips were never reported")
        ways.append((name, found[page]))
    ways.append((f"even sweep, only {LARGE} that wait a page", even_sweep(service, warm, POLL, RATE, LARGE)[0]))
    for page in (USUAL, LARGE):
        swept, _ = even_sweep(service, warm, POLL, RATE, page, listed=True)
        ways.append((f"even sweep of the list as it is, {page} a page", swept))
    ways.append(("one GET each, every 10 s", singles(service, warm, RATE, lambda polls: POLL)))
    backed = singles(service, warm, RATE, lambda polls: min(120.0, 5.0 * 1.5**polls))
    ways.append(("one GET each, back-off 5-120 s", backed))
    ways.append(("oracle", oracle(service, warm, RATE)))
    return {
        "load": load,
        "in_flight": flight,
        "in_flight_on_average": round(jobs_in_flight(service.jobs, warm)),
        "hours": hours,
        "clips": clips,
        "longest_sweep": round(longest, 2),
        "least_of_even_sweep_s_requests": floor,
        "ways": [summarize(name, result, sweep, longest, clips) for name, result in ways],
    }


def least(flight: int, load: str, seed: int, hours: float) -> float:
    """The share of the sweep's requests below which nobody who knows only the distributions can keep the bounds."""
    warm, service = WARM[load], build_service(flight, load, seed, hours)
    sweep, longest = even_sweep(service, warm, POLL, RATE)
    return round(fewest(ends(service.jobs, warm), 1.1 * longest / 2, 1.5 * longest) / sweep.requests, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, nargs="*", default=list(HOURS))
    parser.add_argument("--loads", nargs="*", default=list(LOADS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    options = parser.parse_args()
    hours = QUICK_HOURS if options.quick else HOURS
    cases = [(flight, load) for flight in sorted(options.in_flight, reverse=True) for load in options.loads]
    with ProcessPoolExecutor(options.processes) as pool:
        waiting = {
            (*case, page): pool.submit(simulate_ours, *case, options.seed, hours[case[0]], page)
            for case in cases
            for page in (LARGE, USUAL)
        }
        long = QUICK_FLOOR_HOURS if options.quick else FLOOR_HOURS
        floors = {case: pool.submit(least, *case, options.seed, long) for case in cases if case[0] <= USUAL}
        for case in cases:
            floor = floors[case].result() if case in floors else None
            found = {page: waiting[(*case, page)].result() for page in (LARGE, USUAL)}
            result = compare(*case, options.seed, hours[case[0]], found, floor)
            print(json.dumps(result), flush=True)
            # Saved one by one, so that an interrupted run keeps its results.
            save("lag", [result], key=("in_flight", "load"), quick=options.quick)


if __name__ == "__main__":
    main()
