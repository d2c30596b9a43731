"""The settings in a ComfyUI graph (the `prompt` of a picture): its sampler nodes and what leads into them. Torch-free.

A graph is {id: {"class_type": …, "inputs": {name: a value, or [id, output] of another node}}}. Links are followed from
the picture that was saved; nothing is executed, circles and endless chains are cut with a note.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from engine.drawing.a1111_settings import put_sampler, put_seed, put_sigmas, put_text_alone
from engine.drawing.picture_notes import Found

MOST_NODES = 5_000
_MOST_FOLLOWED = 200  # nodes in a chain
SAMPLERS = {
    "euler": "euler",
    "euler_ancestral": "euler_a",
    "heun": "heun",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_sde": "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_3m_sde": "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu": "dpmpp_3m_sde",
    "ddim": "ddim",
    "uni_pc": "unipc",
    "lcm": "lcm",
}
SIGMAS = {"normal": "normal", "karras": "karras", "exponential": "exponential", "ddim_uniform": "normal"}
_SAMPLER_NODES = ("KSampler", "KSamplerAdvanced")
_UPSCALES = {
    "LatentUpscale": "latent",
    "LatentUpscaleBy": "latent",
    "ImageScale": "pixel",
    "ImageScaleBy": "pixel",
    "ImageUpscaleWithModel": "pixel",
}
_TEXTS = ("text", "string", "value", "prompt", "text_a", "text_positive")
_SHOWN = ("SaveImage", "PreviewImage", "SaveImageWebsocket", "SaveAnimatedWEBP")


@dataclass(frozen=True)
class _Node:
    id: str
    kind: str
    inputs: Mapping[str, Any]


class _Graph:
    """The nodes of a graph, and ways through it."""

    def __init__(self, content: Mapping[str, Any], found: Found) -> None:
        self.found = found
        self.nodes: dict[str, _Node] = {}
        for key, node in list(content.items())[:MOST_NODES]:
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
                self.nodes[str(key)] = _Node(str(key), str(node.get("class_type", "")), node["inputs"])

    def linked(self, node: _Node, *names: str) -> _Node | None:
        """The node that leads into the first of these inputs that has one."""
        for name in names:
            value = node.inputs.get(name)
            if isinstance(value, list) and len(value) == 2 and str(value[0]) in self.nodes:
                return self.nodes[str(value[0])]
        return None

    def chain(self, node: _Node | None, *names: str) -> Iterator[_Node]:
        """A node and those before it, along inputs of these names."""
        seen: set[str] = set()
        while node is not None:
            if node.id in seen or len(seen) >= _MOST_FOLLOWED:
                self.found.note("cycle")
                return
            seen.add(node.id)
            yield node
            node = self.linked(node, *names)

    def value(self, node: _Node, name: str) -> Any:
        """What an input holds, also where another node gives it (primitive nodes, seeds, strings)."""
        for _ in range(_MOST_FOLLOWED):
            held = node.inputs.get(name)
            source = self.linked(node, name)
            if source is None:
                return None if isinstance(held, (list, dict)) else held
            node = source
            given = [
                key for key in (name, "value", "seed", "noise_seed", *_TEXTS, "int", "float") if key in node.inputs
            ]
            if not given:
                return None
            name = given[0]
        self.found.note("cycle")
        return None


def from_graph(text: str) -> Found:
    """The settings of a graph, and notes on what was not understood."""
    found = Found("ComfyUI")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        found.note("broken", what="no valid JSON")
        return found
    graph = _Graph(content if isinstance(content, dict) else {}, found)
    passes = _passes(graph)
    if not passes:
        found.note("broken", what="no KSampler in the graph")
        return found
    first = passes[0]
    _read_sampler(graph, first)
    _read_prompts(graph, first)
    _read_model(graph, first)
    _read_size(graph, first)
    _read_further(graph, passes)
    return found


def _passes(graph: _Graph) -> list[_Node]:
    """The sampler nodes that lead to the saved picture, the first pass first."""
    ends = [node for node in graph.nodes.values() if node.kind in _SHOWN]
    ends += [node for node in graph.nodes.values() if node.kind in _SAMPLER_NODES]
    for end in ends:
        line = graph.chain(end, "images", "image", "samples", "latent_image", "latent", "pixels", "upscale_model_image")
        passes = [node for node in line if node.kind in _SAMPLER_NODES]
        if passes:
            return passes[::-1]
    return []


def _read_sampler(graph: _Graph, node: _Node) -> None:
    found = graph.found
    for name, path in (("steps", "sampling.steps"), ("cfg", "sampling.cfg_scale")):
        value = graph.value(node, name)
        if value is not None:
            found.put_number(path, value)
    put_seed(found, graph.value(node, "seed" if "seed" in node.inputs else "noise_seed"))
    sampler, sigmas = (str(graph.value(node, name) or "") for name in ("sampler_name", "scheduler"))
    put_sampler(found, SAMPLERS.get(sampler), sampler)
    put_sigmas(found, SIGMAS.get(sigmas), sigmas)


def _read_prompts(graph: _Graph, node: _Node) -> None:
    found = graph.found
    loras = "".join(f" {mention}" for mention in _loras(graph, node))
    found.put("picture.prompt", _conditioning(graph, graph.linked(node, "positive")) + loras)
    found.put("picture.negative", _conditioning(graph, graph.linked(node, "negative")))


def _conditioning(graph: _Graph, node: _Node | None) -> str:
    """The text of a conditioning; of nodes that join several, the texts one after the other."""
    texts: list[str] = []
    waiting, seen = [node] if node else [], set[str]()
    while waiting:
        here = waiting.pop()
        if here.id in seen:
            continue
        seen.add(here.id)
        if here.kind == "ConditioningZeroOut":
            continue
        text = _encoded(graph, here)
        if text is not None:
            texts.append(text)
        else:
            linked = [graph.linked(here, name) for name in here.inputs if name.startswith("conditioning")]
            waiting += [item for item in linked[::-1] if item]
    if len(set(texts)) > 1:
        graph.found.note("prompts")
    return ", ".join(dict.fromkeys(text for text in texts if text))


def _encoded(graph: _Graph, node: _Node) -> str | None:
    """The text of a node that encodes one; None for others."""
    if "text_g" in node.inputs or "text_l" in node.inputs:
        both = [str(graph.value(node, name) or "") for name in ("text_g", "text_l")]
        if both[0] != both[1] and all(both):
            graph.found.note("encoders")
        _read_clip(graph, node)
        return max(both, key=len)
    if "clip" in node.inputs or "Encode" in node.kind:
        name = next((name for name in _TEXTS if name in node.inputs), None)
        if name is not None:
            _read_clip(graph, node)
            return str(graph.value(node, name) or "")
    return None


def _read_clip(graph: _Graph, node: _Node) -> None:
    for before in graph.chain(graph.linked(node, "clip"), "clip"):
        if before.kind == "CLIPSetLastLayer":
            layer = graph.value(before, "stop_at_clip_layer")
            if isinstance(layer, int) and layer < 0:
                graph.found.put("picture.clip_skip", -layer)
            return


def _loras(graph: _Graph, node: _Node) -> list[str]:
    """`<lora:…>` for each LoRA on the way to the sampler's model, the first one first."""
    mentions: list[str] = []
    for before in graph.chain(graph.linked(node, "model"), "model"):
        name = graph.value(before, "lora_name")
        if isinstance(name, str) and name not in ("", "None"):
            strength = graph.value(before, "strength_model")
            text = graph.value(before, "strength_clip")
            strength = strength if isinstance(strength, (int, float)) else 1.0
            text = text if isinstance(text, (int, float)) else (0.0 if "Model" in before.kind else strength)
            shown = f"{strength:g}" if text == strength else f"{text:g}:{strength:g}"
            mentions.append(f"<lora:{_stem(name)}:{shown}>")
    return mentions[::-1]


def _read_model(graph: _Graph, node: _Node) -> None:
    found = graph.found
    found.put("sampling.cfg_rescale", 0.0)
    for before in graph.chain(graph.linked(node, "model"), "model"):
        if before.kind == "RescaleCFG":
            found.put_number("sampling.cfg_rescale", graph.value(before, "multiplier"))
        elif before.kind == "ModelSamplingDiscrete":
            kind = {"v_prediction": "v_prediction", "eps": "epsilon"}.get(str(graph.value(before, "sampling")))
            if kind:
                found.put("model.prediction", kind)
                found.put("model.zero_terminal_snr", "yes" if graph.value(before, "zsnr") is True else "no")
        name = graph.value(before, "ckpt_name")
        if isinstance(name, str):
            found.model = _stem(name)


def _read_size(graph: _Graph, node: _Node) -> None:
    """From an empty latent its size; from a picture that there was one."""
    found = graph.found
    denoise = graph.value(node, "denoise")
    for before in graph.chain(graph.linked(node, "latent_image"), "samples", "pixels", "image", "latent"):
        if before.kind.startswith("EmptyLatentImage") or ("width" in before.inputs and "batch_size" in before.inputs):
            for name in ("width", "height"):
                found.put_number(f"picture.{name}_px", graph.value(before, name))
            put_text_alone(found)
            return
    if isinstance(denoise, (int, float)):
        found.put_number("image.denoising_strength", denoise)
    found.note("image")


def _read_further(graph: _Graph, passes: list[_Node]) -> None:
    """A second pass on an enlarged picture is hires fix; one with another model that goes on is the refiner."""
    found = graph.found
    found.put("hires.on", False)
    found.put("refiner.model", "")
    for second in passes[1:3]:
        way = list(graph.chain(graph.linked(second, "latent_image"), "samples", "pixels", "image", "latent"))
        enlarged = next((node for node in way if node.kind in _UPSCALES), None)
        other = next(
            (node for node in graph.chain(graph.linked(second, "model"), "model") if "ckpt_name" in node.inputs), None
        )
        name = _stem(str(graph.value(other, "ckpt_name"))) if other else ""
        if enlarged is not None and len(passes) == 2:
            _read_hires(graph, second, enlarged)
        elif name and name != found.model and len(passes) == 2:
            _read_refiner(graph, passes[0], name)
        else:
            found.note("samplers")


def _read_hires(graph: _Graph, second: _Node, enlarged: _Node) -> None:
    found = graph.found
    found.put("hires.on", True)
    found.put("hires.upscaler", _UPSCALES[enlarged.kind])
    scale, width = graph.value(enlarged, "scale_by"), graph.value(enlarged, "width")
    before = found.values.get("picture.width_px")
    if scale is None and isinstance(width, int) and before:
        scale = round(width / before, 4)
    if scale is not None:
        found.put_number("hires.scale", scale)
    if enlarged.kind == "ImageUpscaleWithModel":
        found.note("upscaler", name=enlarged.kind)
    for name, path in (("denoise", "hires.denoising_strength"), ("steps", "hires.steps")):
        value = graph.value(second, name)
        if value is not None:
            found.put_number(path, value)


def _read_refiner(graph: _Graph, first: _Node, name: str) -> None:
    end, steps = graph.value(first, "end_at_step"), graph.value(first, "steps")
    if isinstance(end, int) and isinstance(steps, int) and 0 < end < steps:
        graph.found.put("refiner.switch_at", round(end / steps, 4))
    graph.found.note("refiner", name=name)


def _stem(name: str) -> str:
    """A file's name as it stands on any system, without folder and ending."""
    return PureWindowsPath(name[:400]).name.removesuffix(".safetensors").removesuffix(".ckpt")
