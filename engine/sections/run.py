"""Settings of the section `run`: length, batches, saving."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Run(Section):
    name: str = setting("my-lora", "Name of the run and of the LoRA file that it makes.", "运行名称", label="Name", kohya="output_name", sd_scripts="output_name")
    folder: str = setting("runs", "Folder in which each run gets a folder of its own.", "运行文件夹", label="Runs folder", kind="folder", level="advanced", kohya="output_dir", sd_scripts="output_dir")
    length: Literal["epochs", "steps"] = setting("epochs", "Which of the two numbers below decides when the run ends.", "训练时长按", label="Length given in")
    epochs: int = setting(10, "How often the whole data set is gone through.", "训练轮数", ge=1, le=100000, when={"run.length": "epochs"}, kohya="epoch", sd_scripts="max_train_epochs")
    steps: int = setting(1600, "How many optimizer updates are made.", "训练步数", ge=1, le=10000000, when={"run.length": "steps"}, kohya="max_train_steps", sd_scripts="max_train_steps")
    batch_size: int = setting(1, "Images per step; more is steadier and needs more memory.", "批量大小", ge=1, le=512, kohya="train_batch_size", sd_scripts="train_batch_size")
    accumulation: int = setting(1, "Batches that are added up before each update: a larger batch without its memory.", "梯度累积", label="Gradient accumulation", ge=1, le=1024, level="advanced", kohya="gradient_accumulation_steps", sd_scripts="gradient_accumulation_steps")
    gpus: int = setting(1, "GPUs that train this run together; each takes batch size images per step.", "GPU 数量", label="GPUs", ge=1, le=1024, level="advanced", kohya="num_processes")
    seed: int = setting(42, "Start of all random numbers; the same seed repeats a run exactly.", "随机种子", ge=0, le=4294967295, kohya="seed", sd_scripts="seed")
    save_every_epochs: int = setting(1, "Save a checkpoint every so many epochs; 0 for none on the way.", "每 N 轮保存", ge=0, le=100000, unit="epochs", kohya="save_every_n_epochs", sd_scripts="save_every_n_epochs")
    save_every_steps: int = setting(0, "Save a checkpoint every so many steps; 0 for none on the way.", "每 N 步保存", ge=0, le=10000000, unit="steps", level="advanced", kohya="save_every_n_steps", sd_scripts="save_every_n_steps")
    save_every_minutes: int = setting(0, "Save a checkpoint when so many minutes have passed since the last one; 0 for none on the way.", "每 N 分钟保存", ge=0, le=100000, unit="minutes", level="advanced")
    keep_last: int = setting(
        0, "Of the checkpoints saved on the way keep only the last so many; 0 keeps all. The final one, the best one and those you asked for stay.", "保留最近几个", label="Keep the last", ge=0, le=100000, unit="checkpoints", level="advanced", kohya="save_last_n_epochs", sd_scripts="save_last_n_epochs"
    )
    file_names: Literal["step", "epoch"] = setting("step", "What the names of checkpoints on the way carry: NAME-000400 (step), or NAME-epoch0004 where an epoch ends.", "文件名编号", level="expert")
    save_precision: Literal["fp16", "bf16", "fp32"] = setting("fp16", "Number format of the saved LoRA; fp16 is read everywhere.", "保存精度", level="advanced", kohya="save_precision", sd_scripts="save_precision")
    state_saves: Literal["with_checkpoints", "at_end"] = setting("with_checkpoints", "When to write what a resume needs: with every checkpoint, or only when you stop or save and at the end; a crash then loses more.", "状态保存时机", label="Save states", level="expert")
    state_every_steps: int = setting(0, "Besides, write what a resume needs every so many steps, without a checkpoint; 0 for never.", "每 N 步保存状态", label="Save a state every", ge=0, le=10000000, unit="steps", level="expert")
    keep_states: int = setting(2, "How many states to keep; each is about three times as large as the LoRA in fp32.", "保留状态数", ge=1, le=1000, unit="states", level="expert", kohya="save_last_n_epochs_state", sd_scripts="save_last_n_epochs_state")
    ema_decay: float = setting(0.0, "Save and show a running average of the weights, steadier than the last step; 0.999 remembers about 1,000 steps, 0 switches it off.", "EMA 衰减", label="EMA decay", ge=0, le=0.99999, level="advanced")
    ema_warmup: bool = setting(True, "Let the average remember little at first, so that the untrained start is soon forgotten.", "EMA 预热", label="EMA warm-up", level="expert")
    ema_start_step: int = setting(0, "Step from which on the average is kept.", "EMA 起始步", label="EMA start", ge=0, le=10000000, unit="steps", level="expert")
    ema_device: Literal["same", "cpu"] = setting("same", "Where the average lies: on the same device as the weights, or in main memory, which is slower and spares the GPU's.", "EMA 设备", label="EMA kept on", level="expert")
