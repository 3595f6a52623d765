# SPDX-License-Identifier: Apache-2.0
"""The sound of a clip: decoded from the given audio, or synthesized."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_wan.sandbox.rendering.media_download import MediaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float32]

RATE = 48_000
MIN_SECONDS, MAX_SECONDS = 3.0, 30.0
_CHORDS = ((110.0, 164.81, 220.0, 277.18), (98.0, 146.83, 196.0, 246.94), (130.81, 196.0, 261.63, 329.63))


def synthesize(seed: str, seconds: int) -> Samples:
    """Synthesize a soft chord that swells and fades.

    :returns: two channels of samples at 48 kHz.
    """
    import numpy as np

    roll = random.Random(f"sound:{seed}")
    time = np.arange(seconds * RATE, dtype=np.float32) / RATE
    sound = np.zeros((2, time.size), dtype=np.float32)
    for tone in roll.choice(_CHORDS):
        for side in range(2):
            swell = 0.6 + 0.4 * np.sin(2 * np.pi * roll.uniform(0.1, 0.4) * time + roll.uniform(0, 6))
            wave = np.sin(2 * np.pi * (tone + roll.uniform(-0.4, 0.4)) * time)
            sound[side] += (0.06 * swell * wave).astype(np.float32)
    edge = np.minimum(1.0, np.minimum(time / 0.3, (seconds - time) / 0.3)).astype(np.float32)
    return (sound * edge).astype(np.float32)


def read_audio(data: bytes, seconds: int) -> Samples:
    """Decode the given audio, cut to the length of the clip or padded with silence.

    :raises MediaError: if it violates the contract.
    """
    import av
    import numpy as np

    pieces: list[Samples] = []
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if container.format.name not in ("wav", "mp3") or not container.streams.audio:
                raise MediaError("The audio could not be decoded: WAV or MP3 is expected")
            resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
            for frame in container.decode(audio=0):
                pieces.extend(each.to_ndarray().astype(np.float32) for each in resampler.resample(frame))
            pieces.extend(each.to_ndarray().astype(np.float32) for each in resampler.resample(None))
    except (OSError, ValueError) as problem:
        raise MediaError("The audio could not be decoded: WAV or MP3 is expected") from problem
    sound = np.concatenate(pieces, axis=1) if pieces else np.zeros((2, 0), dtype=np.float32)
    length = sound.shape[1] / RATE
    if not MIN_SECONDS - 0.05 <= length <= MAX_SECONDS + 0.05:
        raise MediaError(f"The audio is {length:.1f} s long: 3 to 30 s are expected")
    whole = np.zeros((2, seconds * RATE), dtype=np.float32)
    copied = min(whole.shape[1], sound.shape[1])
    whole[:, :copied] = sound[:, :copied]
    return whole
