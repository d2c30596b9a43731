"""Settings of the section `noise`: noise and timesteps."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Noise(Section):
    offset: float = setting(0.0, "Adds one random value per channel to the noise, so that darker and brighter pictures can be learned; 0.03 to 0.1 is usual.", "噪声偏移", label="Noise offset", ge=0, le=1, level="advanced", kohya="noise_offset", sd_scripts="noise_offset")
    offset_random: bool = setting(False, "Draws the strength of the noise offset anew each time, between 0 and that value.", "随机噪声偏移强度", label="Random noise offset", level="expert", kohya="noise_offset_random_strength", sd_scripts="noise_offset_random_strength")
    offset_adaptive: float = setting(0.0, "Adds this times how bright or dark an image's own latents are to its noise offset; below 0 takes away.", "自适应噪声偏移", label="Adaptive noise offset", ge=-1, le=1, level="expert", kohya="adaptive_noise_scale", sd_scripts="adaptive_noise_scale")
    pyramid_levels: int = setting(0, "Adds up to this many coarser noises (pyramid or multires noise), for wider brightness; 6 to 10 is usual, 0 is off.", "金字塔噪声层数", label="Pyramid noise levels", ge=0, le=64, level="advanced", kohya="multires_noise_iterations", sd_scripts="multires_noise_iterations")
    pyramid_discount: float = setting(0.3, "How strong each coarser noise is beside the one before; 0.1 to 0.3 is usual.", "金字塔噪声衰减", label="Pyramid noise discount", ge=0, le=1, level="advanced", kohya="multires_noise_discount", sd_scripts="multires_noise_discount")
    perturbation: float = setting(0.0, "Adds this much extra noise to what the model sees, not to what it should predict; 0.1 is usual, 0 is off.", "输入扰动", label="Input perturbation", ge=0, le=1, level="expert", kohya="ip_noise_gamma", sd_scripts="ip_noise_gamma")
    perturbation_random: bool = setting(False, "Draws the strength of the input perturbation anew each time, between 0 and that value.", "随机输入扰动强度", label="Random input perturbation", level="expert", kohya="ip_noise_gamma_random_strength", sd_scripts="ip_noise_gamma_random_strength")
    timesteps: Literal["uniform", "logit_normal", "beta", "curve"] = setting("uniform", "How often each timestep is drawn: all alike, mostly the middle (logit-normal), by two exponents, or by your curve.", "时间步分布", label="Timestep distribution", level="advanced")
    logit_mean: float = setting(0.0, "Where that distribution has its middle: above 0 more noisy timesteps, below 0 more of the clean ones.", "Logit-normal 均值", label="Logit-normal mean", ge=-5, le=5, level="expert", when={"noise.timesteps": "logit_normal"})
    logit_deviation: float = setting(1.0, "How wide that distribution is.", "Logit-normal 标准差", label="Logit-normal deviation", ge=0.05, le=5, level="expert", when={"noise.timesteps": "logit_normal"})
    beta_a: float = setting(2.0, "Above 1 clean timesteps become rarer, below 1 more frequent.", "Beta 参数 a", label="Beta a", ge=0.1, le=20, level="expert", when={"noise.timesteps": "beta"})
    beta_b: float = setting(2.0, "Above 1 noisy timesteps become rarer, below 1 more frequent.", "Beta 参数 b", label="Beta b", ge=0.1, le=20, level="expert", when={"noise.timesteps": "beta"})
    timestep_curve: str = setting("0:1, 1000:1", "How often timesteps are drawn, as points timestep:weight joined by straight lines, like 0:1, 500:0.3, 1000:0.", "时间步曲线", level="expert", when={"noise.timesteps": "curve"})
    timestep_spread: Literal["independent", "stratified", "antithetic"] = setting("independent", "How the images of a step share the timesteps: each by chance, spread evenly over all, or in opposite pairs.", "批内时间步分配", level="advanced")
    min_timestep: int = setting(0, "Lowest timestep that is trained; higher leaves fine detail alone.", "最小时间步", ge=0, le=999, level="expert", kohya="min_timestep", sd_scripts="min_timestep")
    max_timestep: int = setting(1000, "Timesteps below this are trained; lower leaves composition alone. The same number in both trains that timestep alone.", "最大时间步", ge=1, le=1000, level="expert", kohya="max_timestep", sd_scripts="max_timestep")
