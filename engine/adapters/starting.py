"""Begin with the numbers of an adapter that was trained before, in place of fresh ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from engine.adapters import ADAPTERS
from engine.adapters.attach import Adapter, Recipe
from engine.adapters.loading import AdapterFile, LoadedLayer, load_adapter_file, names_of, site_of
from engine.adapters.site import Site
from engine.adapters.targets import PREFIX, all_targets, norm_targets
from engine.errors import ModelError
from engine.layer_choice import LayerChoice


@dataclass(frozen=True)
class Start:
    """An adapter file to begin with. `gives_ranks`: layers, ranks and alphas are the file's, not the preset's."""

    file: AdapterFile
    gives_ranks: bool = False

    @classmethod
    def read(cls, path: Path, gives_ranks: bool = False) -> Start:
        """ModelError, in a sentence, where the file is damaged, is no adapter, or is of a kind that is not known."""
        return cls(load_adapter_file(path), gives_ranks)

    def sites(self, models: Mapping[str, nn.Module], recipe: Recipe) -> list[Site]:
        """A site for each layer of the file that is trained, as the file has it. ModelError where it does not fit."""
        choice = recipe.choice or LayerChoice()
        found: list[Site] = []
        unknown = {name for name in self.file.layers if name.startswith(tuple(PREFIX[part] for part in models))}
        for part, model in models.items():
            for target in (*all_targets(part, model), *norm_targets(part, model)):
                name = self._name(target.part, target.path, target.name)
                unknown.discard(name or "")
                rate = choice.rate_of(target.name)
                if name is not None and rate:
                    layer = self.file.layers[name]
                    algorithm = self._algorithm(recipe.algorithm, name, layer)
                    found.append(dataclasses.replace(site_of(target, layer), rate=rate, algorithm=algorithm))
        if unknown:
            what = f"has {len(unknown)} layers that this model does not have (first: {min(unknown)})."
            raise ModelError(f"{what} It was made for another kind of model.", str(self.file.path))
        if not found:
            raise self._without_layers()
        return found

    def fill(self, adapter: Adapter) -> str:
        """Copy the file's numbers into an adapter; returns what was done, in a sentence. ModelError if one misfits."""
        taken: set[str] = set()
        for site in adapter.sites:
            name = self._name(site.target.part, site.target.path, site.target.name)
            if name is not None:
                self._copy(name, site, adapter)
                taken.add(name)
        if not taken:
            raise self._without_layers()
        fresh, left = len(adapter.sites) - len(taken), len(self.file.layers) - len(taken)
        more = f", {fresh} start anew" if fresh else ""
        more += f", {left} of the file are left out" if left else ""
        return f"Starting from {self.file.path.name}: {len(taken)} layers taken over{more}."

    def _name(self, part: str, path: str, name: str) -> str | None:
        """What the file calls a layer."""
        return next((each for each in names_of(part, path, name) if each in self.file.layers), None)

    def _algorithm(self, wanted: str, name: str, layer: LoadedLayer) -> str:
        """The preset's algorithm where the tensors are its own too (LoRA's and LoRA-FA's are alike)."""
        if wanted == layer.algorithm or layer.algorithm == "full":
            return layer.algorithm
        how = ADAPTERS[wanted]
        if set(layer.tensors) <= set(how.SUFFIXES) and how.recognises(layer.tensors):
            return wanted
        what = f"holds {layer.algorithm} ({name}), and adapter.algorithm is {wanted}. Set it to {layer.algorithm}."
        raise ModelError(what, str(self.file.path))

    def _copy(self, name: str, site: Site, adapter: Adapter) -> None:
        layer, own = self.file.layers[name], adapter.parameters_of(site.target.name)
        if set(own) != set(layer.tensors):
            held, wanted = ", ".join(sorted(layer.tensors)), ", ".join(sorted(own))
            self._misfit(f"{name} has the tensors {held}; this adapter has {wanted}")
        for suffix, tensor in layer.tensors.items():
            if math.prod(tensor.shape) != math.prod(own[suffix].shape):
                shapes = f"{list(tensor.shape)}; here it must have {list(own[suffix].shape)}"
                self._misfit(f"{name}.{suffix} has the shape {shapes}")
            own[suffix].copy_(tensor.reshape(own[suffix].shape))
        alpha = site.how.scalars(site.place, site.alpha).get("alpha")
        if alpha is not None and not math.isclose(alpha, layer.alpha, rel_tol=1e-3):
            self._misfit(f"{name} has alpha {layer.alpha:g}; here it is {alpha:g}, so its effect would be another")

    def _misfit(self, what: str) -> None:
        advice = "Set the kind, ranks and alphas that it has, or take them from the file (adapter.rank_from_file)."
        raise ModelError(f"does not fit this adapter: {what}. {advice}", str(self.file.path))

    def _without_layers(self) -> ModelError:
        return ModelError("has no layer that this preset trains. Choose another file.", str(self.file.path))
