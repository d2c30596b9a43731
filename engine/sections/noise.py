"""Settings of the section `noise`: noise and timesteps."""

from __future__ import annotations

from engine.settings import Section, setting


class Noise(Section):
    offset: float = setting(
        0.0,
        "Adds one random value per channel to the noise, so that darker and brighter pictures can be learned; 0.03 to 0.1 is usual.",
        "噪声偏移",
        label="Noise offset",
        ge=0,
        le=1,
        level="advanced",
        kohya="noise_offset",
        sd_scripts="noise_offset",
    )
    min_timestep: int = setting(
        0,
        "Lowest timestep that is trained; higher leaves fine detail alone.",
        "最小时间步",
        ge=0,
        le=999,
        level="expert",
        kohya="min_timestep",
        sd_scripts="min_timestep",
    )
    max_timestep: int = setting(
        1000,
        "Timesteps below this are trained; lower leaves composition alone.",
        "最大时间步",
        ge=1,
        le=1000,
        level="expert",
        kohya="max_timestep",
        sd_scripts="max_timestep",
    )
