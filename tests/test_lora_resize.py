"""The tool `resize`: the best of each rank, nothing changed at full rank, alpha and dtype kept, faults in sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.lora_files import (
    CONVOLUTION,
    FEED_FORWARD,
    LINEAR,
    METADATA,
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


@pytest.mark.parametrize(
    "values", [{"rank": 8}, {"rule": "norm", "norm_share": 1.0}, {"rule": "sum", "sum_share": 1.0}]
)
def test_full_rank_changes_nothing_to_the_bit(tmp_path: Path, values: dict[str, object]) -> None:
    source = write_file(tmp_path / "a.safetensors", dtype=torch.float16)
    old, new = tensors_of(source), tensors_of(made("resize", tmp_path, files=source, **values))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) and old[key].dtype == new[key].dtype for key in old)


@pytest.mark.parametrize("family", ["lora", "loha", "lokr"])
def test_each_layer_is_the_best_of_its_rank(tmp_path: Path, family: str) -> None:
    source = write_file(tmp_path / "a.safetensors", family, rank=6, seed=2)
    new = changes_of(made("resize", tmp_path, files=source, rank=3))
    for name, change in changes_of(source).items():
        best = torch.linalg.svdvals(change)[3:].norm()
        torch.testing.assert_close((change - new[name]).norm(), best, rtol=1e-4, atol=1e-6)


def test_alpha_and_rank_keep_their_ratio_and_numbers_their_format(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors", rank=8, alpha=4, dtype=torch.bfloat16)
    new = tensors_of(made("resize", tmp_path, files=source, rank=2, conv_rank=4))
    assert new[f"{LINEAR}.lora_down.weight"].shape == (2, 20)
    assert new[f"{CONVOLUTION}.lora_down.weight"].shape == (4, 16, 3, 3)
    assert new[f"{CONVOLUTION}.lora_up.weight"].shape == (24, 4, 1, 1)
    assert (float(new[f"{LINEAR}.alpha"]), float(new[f"{CONVOLUTION}.alpha"])) == (1.0, 2.0)
    assert {tensor.dtype for tensor in new.values() if tensor.dim()} == {torch.bfloat16}


def test_resizing_again_to_the_same_rank_changes_nothing(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors")
    once = made("resize", tmp_path, files=source, rank=3)
    again = made("resize", tmp_path, files=once, rank=3)
    assert all(torch.equal(tensor, tensors_of(again)[key]) for key, tensor in tensors_of(once).items())


def test_the_error_that_is_allowed_is_kept_with_the_fewest_ranks(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors")
    result = made("resize", tmp_path, files=source, rule="error", error=0.5)
    new, ranks = changes_of(result), tensors_of(result)
    for name, change in changes_of(source).items():
        rank, values = len(ranks[f"{name}.lora_down.weight"]), torch.linalg.svdvals(change)
        assert (change - new[name]).norm() <= 0.5 * change.norm() * (1 + 1e-5)
        assert values[rank - 1 :].norm() > 0.5 * change.norm()


def test_single_layers_get_their_own_rank(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors")
    new = tensors_of(made("resize", tmp_path, files=source, rank=4, layer_ranks="*ff_net*: 2\nre:_attn2_: 6"))
    assert len(new[f"{FEED_FORWARD}.lora_down.weight"]) == 2
    assert len(new[f"{LINEAR}.lora_down.weight"]) == 6


def test_metadata_are_carried_along_with_what_was_done_and_new_hashes(tmp_path: Path) -> None:
    result = made("resize", tmp_path, files=write_file(tmp_path / "a.safetensors"), rank=2)
    found = metadata_of(result)
    assert found["ss_output_name"] == METADATA["ss_output_name"]
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("2", "1.0")
    assert found["modelspec.hash_sha256"] == "0x" + found["sshs_model_hash"]
    assert history_of(result)[0]["tool"] == "resize" and history_of(result)[0]["error"] > 0


def test_a_dora_keeps_its_magnitudes(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors", "dora", layers=(LINEAR,))
    old, new = tensors_of(source), tensors_of(made("resize", tmp_path, files=source, rank=2))
    assert torch.equal(new[f"{LINEAR}.dora_scale"], old[f"{LINEAR}.dora_scale"])
    assert len(new[f"{LINEAR}.lora_down.weight"]) == 2


def test_files_of_diffusers_keep_their_names_and_what_they_do(tmp_path: Path) -> None:
    """Their alphas stand in the metadata, which are written anew: alpha falls with the rank."""
    source = as_diffusers(write_file(tmp_path / "a.safetensors", rank=4), tmp_path / "b.safetensors", alpha=8.0)
    same, lower = made("resize", tmp_path, files=source, rank=4), made("resize", tmp_path, files=source, rank=2)
    assert tensors_of(same).keys() == tensors_of(lower).keys() == tensors_of(source).keys()
    config = json.loads(metadata_of(lower)["lora_adapter_metadata"])
    assert (config["unet.r"], config["unet.lora_alpha"]) == (2, 4)
    kohya = changes_of(tmp_path / "a.safetensors")  # alpha 4 of rank 4; diffusers' alpha is 8
    for name, change in changes_of(same).items():
        torch.testing.assert_close(change, 2 * kohya[name])
    for name, change in changes_of(lower).items():
        best = torch.linalg.svdvals(2 * kohya[name])[2:].norm()
        torch.testing.assert_close((2 * kohya[name] - change).norm(), best, rtol=1e-4, atol=1e-6)


def test_nothing_is_ever_written_over(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors")
    first, second = (made("resize", tmp_path, files=source, rank=2) for _ in range(2))
    assert (first.name, second.name) == ("a-rank2.safetensors", "a-rank2-2.safetensors")
    assert "there is a file" in sentences_or_error(files=source, output=first)


def sentences_or_error(**values: object) -> str:
    return sentences(propose("resize", **values))


def test_bad_files_are_told_in_the_dry_run(tmp_path: Path) -> None:
    good, cut = write_file(tmp_path / "good.safetensors"), tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-64])
    oft, other = write_file(tmp_path / "oft.safetensors", "oft", layers=(LINEAR,)), tmp_path / "sd1.safetensors"
    save_file({"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)}, other)
    half = tmp_path / "half.safetensors"
    save_file({f"{LINEAR}.lora_down.weight": torch.ones(2, 4)}, half)
    mixed = tmp_path / "mixed.safetensors"
    save_file({**layer_tensors(LINEAR, "lora", 2, 1, 0), f"{LINEAR}.lora_up.weight": torch.ones(24, 3)}, mixed)
    told = sentences(propose("resize", files="\n".join(map(str, (cut, oft, other, half, mixed, good)))))
    for part in ("is cut off", "OFT, which has no rank", "Stable Diffusion 1.x", "lacks tensors", "do not fit each"):
        assert part in told
    assert len(told.splitlines()) == 5


def test_a_broken_number_fails_the_row_and_leaves_no_file(tmp_path: Path) -> None:
    tensors = layer_tensors(LINEAR, "lora", 4, 4, 0)
    tensors[f"{LINEAR}.lora_up.weight"][3, 1] = float("nan")
    source = tmp_path / "nan.safetensors"
    save_file(tensors, source)
    code, rows = run("resize", tmp_path, files=source, rank=2)
    assert code == 2 and "not finite" in rows[0].row.note
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["nan.safetensors"]
    assert not list(tmp_path.glob(".*.part"))


def test_numbers_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    tensors = layer_tensors(LINEAR, "lora", 4, 4, 0)
    tensors[f"{LINEAR}.lora_up.weight"] *= 1e12
    source = tmp_path / "large.safetensors"
    save_file(tensors, source)
    code, rows = run("resize", tmp_path, files=source, rank=2, precision="fp16")
    assert code == 2 and "Choose the precision bf16 or fp32" in rows[0].row.note
