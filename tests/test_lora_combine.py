"""The tool `combine`: the sum is exact, or the best of its rank; in any order of the files; faults are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.lora_files import (
    CONVOLUTION,
    FEED_FORWARD,
    LINEAR,
    TEXT,
    as_diffusers,
    changes_of,
    history_of,
    layer_tensors,
    made,
    metadata_of,
    propose,
    run,
    sentences,
    tensors_of,
    write_file,
)


def lines(*files: object) -> str:
    return "\n".join(map(str, files))


def check_sum(result: Path, parts: list[tuple[Path, float]]) -> None:
    total: dict[str, Tensor] = {}
    for path, weight in parts:
        for name, change in changes_of(path).items():
            total[name] = total.get(name, torch.zeros_like(change)) + weight * change
    found = changes_of(result)
    assert found.keys() == total.keys()
    for name, change in total.items():
        torch.testing.assert_close(found[name], change, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("families", [("lora", "lora"), ("lora", "loha"), ("lokr", "lora"), ("loha", "lokr")])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -0.5)])
def test_concatenated_ranks_are_the_exact_sum(
    tmp_path: Path, families: tuple[str, str], weights: tuple[float, float]
) -> None:
    one = write_file(tmp_path / "one.safetensors", families[0], rank=3, alpha=2, seed=1)
    two = write_file(tmp_path / "two.safetensors", families[1], rank=2, alpha=4, seed=2, layers=(LINEAR, CONVOLUTION))
    result = made("combine", tmp_path, files=lines(f"{one}: {weights[0]}", f"{two}: {weights[1]}"))
    check_sum(result, [(one, weights[0]), (two, weights[1])])


def test_loras_of_one_alpha_are_concatenated_to_the_bit(tmp_path: Path) -> None:
    one, two = (
        write_file(tmp_path / f"{seed}.safetensors", rank=4, alpha=2, seed=seed, dtype=torch.float16) for seed in (1, 2)
    )
    new, old = tensors_of(made("combine", tmp_path, files=lines(one, two))), [tensors_of(one), tensors_of(two)]
    key = f"{CONVOLUTION}.lora_down.weight"
    assert torch.equal(new[key], torch.cat([each[key] for each in old]))
    assert float(new[f"{CONVOLUTION}.alpha"]) == 4.0


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    one, two = (write_file(tmp_path / f"{seed}.safetensors", rank=seed, seed=seed) for seed in (2, 3))
    for method in ("concatenate", "svd"):
        forth = changes_of(made("combine", tmp_path, files=lines(one, two), method=method, rank=4))
        back = changes_of(made("combine", tmp_path, files=lines(two, one), method=method, rank=4))
        for name, change in forth.items():
            torch.testing.assert_close(back[name], change, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("other", ["lora", "full"])
def test_svd_gives_the_best_of_its_rank(tmp_path: Path, other: str) -> None:
    one = write_file(tmp_path / "one.safetensors", rank=5, seed=1, layers=(LINEAR, CONVOLUTION))
    two = write_file(tmp_path / "two.safetensors", other, rank=5, seed=2, layers=(LINEAR, CONVOLUTION))
    result = made("combine", tmp_path, files=lines(one, f"{two}: 0.5"), method="svd", rank=4, conv_rank=6)
    old, new = [changes_of(one), changes_of(two)], changes_of(result)
    for name, rank in ((LINEAR, 4), (CONVOLUTION, 6)):
        exact = old[0][name] + 0.5 * old[1][name]
        best = torch.linalg.svdvals(exact)[rank:].norm()
        torch.testing.assert_close((exact - new[name]).norm(), best, rtol=1e-3, atol=1e-6)
    assert tensors_of(result)[f"{CONVOLUTION}.lora_down.weight"].shape == (6, 16, 3, 3)


def test_svd_at_a_rank_that_is_enough_is_the_exact_sum(tmp_path: Path) -> None:
    one, two = (write_file(tmp_path / f"{seed}.safetensors", rank=3, seed=seed) for seed in (1, 2))
    result = made("combine", tmp_path, files=lines(one, two), method="svd", rank=6)
    check_sum(result, [(one, 1.0), (two, 1.0)])
    assert "exact" in propose("combine", files=lines(one, two), method="svd", rank=6).summary


def test_text_encoders_and_blocks_have_weights_of_their_own(tmp_path: Path) -> None:
    one, two = (write_file(tmp_path / f"{seed}.safetensors", rank=3, seed=seed) for seed in (1, 2))
    blocks = ["1"] * 23
    blocks[5], blocks[13] = "0.25", "0"
    result = changes_of(made("combine", tmp_path, files=lines(one, f"{two}: 0.5: 2: {','.join(blocks)}")))
    old, other = changes_of(one), changes_of(two)
    for name, weight in ((LINEAR, 0.125), (FEED_FORWARD, 0.0), (CONVOLUTION, 0.125), (TEXT, 2.0)):
        torch.testing.assert_close(result[name], old[name] + weight * other[name], rtol=1e-4, atol=1e-6)


def test_the_mean_of_like_loras_is_the_lora_and_of_others_tells_its_error(tmp_path: Path) -> None:
    one, like, other = tmp_path / "1.safetensors", tmp_path / "2.safetensors", tmp_path / "3.safetensors"
    for path, seed in ((one, 1), (like, 1), (other, 2)):
        write_file(path, rank=3, seed=seed)
    check_sum(made("combine", tmp_path, files=lines(f"{one}: 0.5", f"{like}: 1"), method="add"), [(one, 1.5)])
    result = made("combine", tmp_path, files=lines(f"{one}: 0.5", f"{other}: 0.5"), method="add")
    up = [tensors_of(path)[f"{LINEAR}.lora_up.weight"] for path in (one, other)]
    torch.testing.assert_close(tensors_of(result)[f"{LINEAR}.lora_up.weight"], (up[0] + up[1]) / 2)
    assert history_of(result)[-1]["error"] > 0.1


def test_differences_and_norms_are_added_number_by_number(tmp_path: Path) -> None:
    one, two = (
        write_file(tmp_path / f"{seed}.safetensors", "full", seed=seed, layers=(LINEAR, CONVOLUTION)) for seed in (1, 2)
    )
    norm = "lora_unet_input_blocks_4_1_transformer_blocks_0_norm1"
    for seed, path in ((3, one), (4, two)):
        tensors = {**tensors_of(path), f"{norm}.w_norm": torch.full((8,), float(seed))}
        save_file({key: tensor for key, tensor in tensors.items() if not key.endswith("alpha")}, path)
    new = tensors_of(made("combine", tmp_path, files=lines(one, f"{two}: 0.5")))
    for key, tensor in tensors_of(one).items():
        torch.testing.assert_close(new[key], tensor + 0.5 * tensors_of(two)[key])
    assert new[f"{norm}.w_norm"].tolist() == [5.0] * 8


def test_metadata_that_agree_stay_and_the_rest_is_told(tmp_path: Path) -> None:
    one, two = (write_file(tmp_path / f"{name}.safetensors", rank=3, alpha=3, seed=2) for name in ("cat", "dog"))
    for path, phrase in ((one, "a cat"), (two, "a dog")):
        about = {"modelspec.trigger_phrase": phrase, "ss_base_model_version": "sdxl_base_v1-0", "ss_seed": phrase}
        save_file(tensors_of(path), path, about)
    found = metadata_of(made("combine", tmp_path, files=lines(one, two)))
    assert found["modelspec.trigger_phrase"] == "a cat, a dog"
    assert found["modelspec.merged_from"] == "cat, dog"
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("6", "6.0")
    assert found["ss_base_model_version"] == "sdxl_base_v1-0" and "ss_seed" not in found


def test_one_layer_in_two_namings_is_one_layer(tmp_path: Path) -> None:
    one, two = (write_file(tmp_path / f"{seed}.safetensors", rank=3, seed=seed) for seed in (1, 2))
    other = as_diffusers(two, tmp_path / "other.safetensors", alpha=6.0)
    found, old = changes_of(made("combine", tmp_path, files=lines(one, other))), changes_of(one)
    assert found.keys() == old.keys()
    for name, change in changes_of(two).items():  # alpha 4 of rank 3 there, 6 of rank 3 here
        torch.testing.assert_close(found[name], old[name] + 1.5 * change, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_combined_is_told_in_the_dry_run(tmp_path: Path) -> None:
    one = write_file(tmp_path / "one.safetensors", rank=3)
    higher = write_file(tmp_path / "higher.safetensors", rank=4)
    dora = write_file(tmp_path / "dora.safetensors", "dora", layers=(LINEAR,))
    full = write_file(tmp_path / "full.safetensors", "full", layers=(LINEAR,))
    foreign = tmp_path / "foreign.safetensors"
    tensors = layer_tensors(LINEAR, "lora", 3, 3, 0)
    save_file({**tensors, f"{LINEAR}.lora_up.weight": torch.ones(99, 3)}, foreign)
    cases = [
        ((one,), {}, "at least two"),
        ((one, f"{higher}: much"), {}, "must be a number"),
        ((one, dora), {}, "Merge it into its base"),
        ((one, foreign), {}, "different sizes"),
        ((one, full), {}, "choose svd"),
        ((one, higher), {"method": "add"}, "of one family and rank"),
        ((f"{one}: 0", f"{higher}: 0"), {}, "every weight is 0"),
        ((one, tmp_path / "none.safetensors"), {}, "no such file"),
    ]
    for files, values, part in cases:
        assert part in sentences(propose("combine", files=lines(*files), **values)), part


def test_a_fault_while_it_works_leaves_no_file(tmp_path: Path) -> None:
    one, two = write_file(tmp_path / "one.safetensors"), tmp_path / "two.safetensors"
    tensors = tensors_of(one)
    tensors[f"{TEXT}.lora_down.weight"][0, 0] = float("inf")
    save_file(tensors, two)
    code, rows = run("combine", tmp_path, files=lines(one, two))
    assert code == 2 and all("not finite" in done.row.note for done in rows)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
