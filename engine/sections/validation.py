"""Settings of the section `validation`: the loss on pictures that are not trained."""

from __future__ import annotations

from engine.settings import Section, setting


class Validation(Section):
    share: float = setting(0.0, "Part of the training pictures that is held out to measure on, such as 0.1; 0 for none. Copies of a picture stay together.", "验证集比例", label="Held-out share", ge=0, le=0.9, level="advanced", sd_scripts="validation_split")
    folder: str = setting("", "Folder of pictures to measure on instead, laid out like the training folder; none of them is trained.", "验证图片文件夹", label="Validation folder", kind="folder", level="advanced")
    every_epochs: int = setting(1, "Measure every so many epochs, and before the first step and at the end; 0 for none on the way.", "每 N 轮验证", ge=0, le=100000, unit="epochs", level="advanced", sd_scripts="validate_every_n_epochs")
    every_steps: int = setting(0, "Measure every so many steps; 0 for none on the way.", "每 N 步验证", ge=0, le=10000000, unit="steps", level="advanced", sd_scripts="validate_every_n_steps")
    bands: int = setting(4, "Parts that the timesteps are divided into; each picture is measured once in each, and the page shows the loss of each.", "时间步分段数", label="Timestep bands", ge=1, le=50, level="advanced")
    most_batches: int = setting(0, "At most so many batches of pictures are measured each time, always the same ones; 0 for all.", "最多验证批数", ge=0, le=100000, level="expert", sd_scripts="max_validation_steps")
    seed: int = setting(42, "Decides which pictures are held out and the noise that they are measured with; runs with the same one can be compared.", "验证随机种子", ge=0, le=4294967295, level="expert", sd_scripts="validation_seed")
    keep_best: bool = setting(True, "Keep the weights of the lowest validation loss as NAME-best.safetensors.", "保留最佳权重", level="advanced")
    patience: int = setting(0, "End the run when so many validations in a row bring nothing better; 0 never ends it early.", "早停耐心值", label="Stop early after", ge=0, le=10000, unit="validations", level="advanced")
    least_improvement: float = setting(0.0, "By which part of the lowest loss so far a validation must be lower to count as better, such as 0.01 for 1 %.", "最小改进幅度", ge=0, le=0.5, level="expert")
