"""Settings of the section `logging`: what is recorded."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Logging(Section):
    every_steps: int = setting(10, "How often losses are read back from the device and shown; every step is recorded all the same.", "日志间隔", label="Show losses every", ge=1, le=1000, unit="steps", level="expert")
    tracker: Literal["none", "tensorboard", "wandb", "all"] = setting("none", "Where losses, rates and validations are recorded besides the run folder; all is both. Keys are read from the environment, never from a preset.", "实验跟踪", level="advanced", kohya="log_with", sd_scripts="log_with")
    folder: str = setting("", "Folder for the tracker's files, where runs can be compared; empty puts them into the run folder.", "跟踪日志文件夹", label="Tracker folder", kind="folder", level="advanced", kohya="logging_dir", sd_scripts="logging_dir")
    project: str = setting("atelier", "Project that runs are gathered in on W&B.", "跟踪项目名", level="advanced", kohya="log_tracker_name", sd_scripts="log_tracker_name")
    run_name: str = setting("", "What the tracker calls this run; empty is the name of the run folder.", "跟踪运行名", label="Run name in the tracker", level="advanced", kohya="wandb_run_name", sd_scripts="wandb_run_name")
    settings: bool = setting(False, "Give the tracker all settings of the preset too, paths included.", "记录全部设置", label="Record the settings", level="advanced", kohya="log_config", sd_scripts="log_config")
