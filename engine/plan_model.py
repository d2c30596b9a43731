"""What a plan finds out about the base model from its header alone. Torch-free."""

from __future__ import annotations

from engine.errors import ModelError, Problem
from engine.preset import Preset, resolve
from engine.sdxl.detect import ModelFacts, Prediction, identify


def look_at_model(preset: Preset, problems: list[Problem]) -> ModelFacts | None:
    if not preset.model.base:
        problems.append(Problem("model.base", "no base model is given. Choose an SDXL .safetensors file or folder."))
        return None
    vae = resolve(preset.model.vae) if preset.model.vae else None
    try:
        facts = identify(resolve(preset.model.base), vae)
    except ModelError as error:
        problems += [_named(problem, preset) for problem in error.problems]
        return None
    if facts.kind != "base":
        what = f"this is an SDXL {facts.kind} model; a LoRA is trained on an SDXL base model. Choose another file."
        problems.append(Problem("model.base", what))
    return facts


def _named(problem: Problem, preset: Preset) -> Problem:
    """A fault of a model file under the setting that names the file."""
    is_vae = preset.model.vae and problem.where.startswith(str(resolve(preset.model.vae)))
    where = "model.vae" if is_vae else "model.base"
    return Problem(where, str(problem))


def model_kind(preset: Preset, model: ModelFacts) -> tuple[Prediction, bool]:
    """Prediction and whether the schedule ends in pure noise: the preset's word, else the file's."""
    prediction = model.prediction if preset.model.prediction == "auto" else preset.model.prediction
    wanted = preset.model.zero_terminal_snr
    return prediction, model.zero_terminal_snr if wanted == "auto" else wanted == "yes"


def prediction_warnings(preset: Preset, model: ModelFacts | None) -> list[Problem]:
    if model is None or model_kind(preset, model) != ("epsilon", True):
        return []
    what = "a model that predicts the noise learns nothing from steps of pure noise. Use it with v-prediction models."
    return [Problem("model.zero_terminal_snr", what)]
