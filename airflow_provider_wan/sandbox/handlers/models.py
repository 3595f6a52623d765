# SPDX-License-Identifier: Apache-2.0
"""``GET /models/{id}``."""

from __future__ import annotations

from typing import Any

from airflow_provider_wan.sandbox.config import MODEL, MODEL_27, SandboxConfig
from airflow_provider_wan.sandbox.contract import DEFAULTS, MAX_SEED

_MICRO = 1_000_000
PARAMETERS: tuple[dict[str, Any], ...] = (
    {"name": "img_url", "type": "string", "required": True, "description": "URL of the first frame"},
    {"name": "prompt", "type": "string", "required": False, "max_length": 1500},
    {"name": "negative_prompt", "type": "string", "required": False, "max_length": 500},
    {"name": "audio_url", "type": "string", "required": False},
    {"name": "resolution", "type": "enum", "required": False, "enum": ["720P", "1080P"]},
    {"name": "duration", "type": "integer", "required": False, "enum": [5, 10, 15]},
    {"name": "prompt_extend", "type": "boolean", "required": False},
    {"name": "shot_type", "type": "enum", "required": False, "enum": ["single", "multi"]},
    {"name": "audio", "type": "boolean", "required": False},
    {"name": "watermark", "type": "boolean", "required": False},
    {"name": "seed", "type": "integer", "required": False, "minimum": 0, "maximum": MAX_SEED},
)
_ONLY_26 = ("img_url", "audio_url", "shot_type", "audio", "duration")
PARAMETERS_27: tuple[dict[str, Any], ...] = (
    *(
        {"name": name, "type": "string", "required": False}
        for name in ("first_frame", "last_frame", "first_clip", "driving_audio")
    ),
    {"name": "duration", "type": "integer", "required": False, "minimum": 2, "maximum": 15},
    *(parameter for parameter in PARAMETERS if parameter["name"] not in _ONLY_26),
)
_PARAMETERS = {MODEL: PARAMETERS, MODEL_27: PARAMETERS_27}


def describe_model(model: str, config: SandboxConfig) -> dict[str, Any]:
    """Describe the parameters and the price of a model; the price is in micro-dollars."""
    cheapest = min(config.prices.values())
    details = ", ".join(f"{name}: ${usd:.2f} per second" for name, usd in sorted(config.prices.items()))
    return {
        "model_id": model,
        "parameters": [_with_default(parameter) for parameter in _PARAMETERS.get(model, ())],
        "price_info": {"price": round(cheapest * _MICRO), "pricing_type": "per_second", "unit": "second"},
        "pricing_details": details,
    }


def _with_default(parameter: dict[str, Any]) -> dict[str, Any]:
    name = parameter["name"]
    return {**parameter, "default": DEFAULTS[name]} if name in DEFAULTS else parameter
