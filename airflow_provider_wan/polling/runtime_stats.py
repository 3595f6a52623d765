# SPDX-License-Identifier: Apache-2.0
"""Observed run times by kind of request, as distributions that are cheap to evaluate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from itertools import accumulate, pairwise

# A kind with fewer samples has no distribution: its requests are polled evenly.
MIN_SAMPLES = 8
# Only the newest samples of a kind count, since the service's speed changes. Of requests that began together the
# slowest end last, so a window smaller than such a group would hold slow ones only.
MAX_SAMPLES = 1000
# Number of samples, evenly spread, that a distribution is built from.
_SAMPLES_PER_DISTRIBUTION = 100
# Size of the distribution's table.
_STEPS = 128
# The table ends at this many medians at the latest: one request that took very long would make its steps too coarse.
_MAX_MEDIANS = 16
# Lower bound of the smoothing width, as a share of the run time.
_MIN_WIDTH = 0.05


class RuntimeDistribution:
    """The smoothed distribution of the run times of one kind of request.

    :param samples: run times in seconds, each above 0.
    """

    __slots__ = ("_cdf", "_cdf_integral", "_cdf_second_integral", "_step", "earliest", "median")

    def __init__(self, samples: Sequence[float]) -> None:
        logs = sorted(math.log(seconds) for seconds in samples)
        mean = sum(logs) / len(logs)
        deviation = math.sqrt(sum((each - mean) ** 2 for each in logs) / len(logs))
        width = max(_MIN_WIDTH, deviation * float(len(logs)) ** -0.2) * math.sqrt(2.0)
        #: Median run time in seconds.
        self.median = math.exp(logs[len(logs) // 2])
        self._step = step = min(math.exp(logs[-1] + 2 * width), _MAX_MEDIANS * self.median) / (_STEPS - 1)
        grid = [math.log(step * index) for index in range(1, _STEPS)]
        cdf = [0.0]
        cdf += [0.5 + 0.5 * sum(math.erf((x - each) / width) for each in logs) / len(logs) for x in grid]
        self._cdf = cdf
        # Integrals by the trapezoid rule.
        self._cdf_integral = [0.0, *accumulate((a + b) / 2 * step for a, b in pairwise(cdf))]
        integral = self._cdf_integral
        self._cdf_second_integral = [0.0, *accumulate((a + b) / 2 * step for a, b in pairwise(integral))]
        #: Seconds below which hardly any request of the kind ends.
        self.earliest = step * max(1, next((i for i, c in enumerate(cdf) if c > 0.01), 1) - 1)

    def probability(self, seconds: float) -> float:
        """Return the probability that a request runs at most this long."""
        return self._interpolate(seconds)[0]

    def expected_completion(self, observed_runtime: float, runtime: float) -> tuple[float, float]:
        """Estimate whether a request that was running when last observed has ended since.

        :param observed_runtime: seconds that it had run when last observed.
        :param runtime: seconds that it would have run by now.
        :returns: the probability that it has ended, and the expected lag so far in seconds.
        """
        observed_cdf, observed_integral = self._interpolate(observed_runtime)
        current_cdf, current_integral = self._interpolate(runtime)
        # The longest observed run is not the longest possible one.
        survival = max(0.05, 1.0 - observed_cdf)
        elapsed = max(0.0, runtime - observed_runtime)
        tail_rate = 0.2 / self.median
        probability = (current_cdf - observed_cdf) / survival + tail_rate * elapsed
        lag = (current_integral - observed_integral - observed_cdf * elapsed) / survival
        lag += tail_rate * elapsed * elapsed / 2
        return (probability, lag) if probability <= 1.0 else (1.0, lag / probability)

    def expected_completion_from_queue(self, elapsed: float, exit_rate: float) -> tuple[float, float]:
        """Estimate whether a request that was queued when last observed has ended since.

        :param elapsed: seconds since then.
        :param exit_rate: probability per second that a request leaves the queue.
        :returns: as :meth:`expected_completion`.
        """
        _, integral = self._interpolate(elapsed)
        index = min(_STEPS - 1, int(elapsed / self._step))
        offset = elapsed - index * self._step
        second_integral = (
            self._cdf_second_integral[index] + (self._cdf_integral[index] + self._cdf[index] * offset / 2) * offset
        )
        return min(1.0, exit_rate * integral), exit_rate * second_integral

    def _interpolate(self, seconds: float) -> tuple[float, float]:
        """Return the distribution function and its integral."""
        position = seconds / self._step
        index = int(position)
        if index < 0:
            return 0.0, 0.0
        if index >= _STEPS - 1:
            return 1.0, self._cdf_integral[-1] + (seconds - self._step * (_STEPS - 1))
        share = position - index
        low, high = self._cdf[index], self._cdf[index + 1]
        value = low + share * (high - low)
        return value, self._cdf_integral[index] + (low + value) / 2 * share * self._step


class RuntimeStats:
    """The observed run times of all kinds. It outlives the waits, within a process."""

    def __init__(self) -> None:
        self._samples: dict[Hashable, deque[float]] = {}
        self._distributions: dict[Hashable, RuntimeDistribution] = {}
        self._new_samples: dict[Hashable, int] = {}

    def add(self, kind: Hashable, seconds: float) -> None:
        """Record the run time of one request."""
        if not 0 < seconds < 1e6:
            return
        samples = self._samples.setdefault(kind, deque(maxlen=MAX_SAMPLES))
        samples.append(seconds)
        new = self._new_samples[kind] = self._new_samples.get(kind, 0) + 1
        # Building a distribution takes some milliseconds: not for each sample.
        if len(samples) >= MIN_SAMPLES and (new >= _SAMPLES_PER_DISTRIBUTION // 4 or new * 4 >= len(samples)):
            stride = math.ceil(len(samples) / _SAMPLES_PER_DISTRIBUTION)
            self._distributions[kind] = RuntimeDistribution(sorted(samples)[stride // 2 :: stride])
            self._new_samples[kind] = 0

    def distribution(self, kind: Hashable) -> RuntimeDistribution | None:
        """Return the distribution of a kind, once there are enough samples."""
        return self._distributions.get(kind)
