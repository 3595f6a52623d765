# SPDX-License-Identifier: Apache-2.0
"""Rendering of the clips: download of the media, animation, sound, MP4 files."""
