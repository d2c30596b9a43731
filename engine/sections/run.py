"""Settings of the section `run`: length, batches, saving."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Run(Section):
    name: str = setting(
        "my-lora",
        "Name of the run and of the LoRA file that it makes.",
        "运行名称",
        label="Name",
        kohya="output_name",
        sd_scripts="output_name",
    )
    folder: str = setting(
        "runs",
        "Folder in which each run gets a folder of its own.",
        "运行文件夹",
        label="Runs folder",
        kind="folder",
        level="advanced",
        kohya="output_dir",
        sd_scripts="output_dir",
    )
    length: Literal["epochs", "steps"] = setting(
        "epochs", "Which of the two numbers below decides when the run ends.", "训练时长按", label="Length given in"
    )
    epochs: int = setting(
        10,
        "How often the whole data set is gone through.",
        "训练轮数",
        ge=1,
        le=100000,
        when={"run.length": "epochs"},
        kohya="epoch",
        sd_scripts="max_train_epochs",
    )
    steps: int = setting(
        1600,
        "How many optimizer updates are made.",
        "训练步数",
        ge=1,
        le=10000000,
        when={"run.length": "steps"},
        kohya="max_train_steps",
        sd_scripts="max_train_steps",
    )
    batch_size: int = setting(
        1,
        "Images per step; more is steadier and needs more memory.",
        "批大小",
        ge=1,
        le=512,
        kohya="train_batch_size",
        sd_scripts="train_batch_size",
    )
    accumulation: int = setting(
        1,
        "Batches that are added up before each update: a larger batch without its memory.",
        "梯度累积",
        label="Gradient accumulation",
        ge=1,
        le=1024,
        level="advanced",
        kohya="gradient_accumulation_steps",
        sd_scripts="gradient_accumulation_steps",
    )
    gpus: int = setting(
        1,
        "GPUs that train this run together; each takes batch size images per step.",
        "GPU 数量",
        label="GPUs",
        ge=1,
        le=1024,
        level="advanced",
        kohya="num_processes",
    )
    seed: int = setting(
        42,
        "Start of all random numbers; the same seed repeats a run exactly.",
        "随机种子",
        ge=0,
        le=4294967295,
        kohya="seed",
        sd_scripts="seed",
    )
    save_every_epochs: int = setting(
        1,
        "Save a checkpoint every so many epochs; 0 for none on the way.",
        "每 N 轮保存",
        ge=0,
        le=100000,
        unit="epochs",
        kohya="save_every_n_epochs",
        sd_scripts="save_every_n_epochs",
    )
    save_every_steps: int = setting(
        0,
        "Save a checkpoint every so many steps; 0 for none on the way.",
        "每 N 步保存",
        ge=0,
        le=10000000,
        unit="steps",
        level="advanced",
        kohya="save_every_n_steps",
        sd_scripts="save_every_n_steps",
    )
    save_precision: Literal["fp16", "bf16", "fp32"] = setting(
        "fp16",
        "Number format of the saved LoRA; fp16 is read everywhere.",
        "保存精度",
        level="advanced",
        kohya="save_precision",
        sd_scripts="save_precision",
    )
