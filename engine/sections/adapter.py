"""Settings of the section `adapter`: what is trained."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Adapter(Section):
    algorithm: Literal["lora", "lora_fa", "dora", "loha", "lokr", "oft", "boft", "dylora", "tlora", "ia3", "glora", "full"] = setting("lora", "The kind of adapter; LoRA is read by every program, and a conv rank makes it a LoCon.", "算法", level="advanced", kohya="LoRA_type", sd_scripts="network_module")
    rank: int = setting(16, "Size of the adapter: more can hold more detail, costs memory, and over-trains sooner.", "秩 (rank)", ge=1, le=1024, kohya="network_dim", sd_scripts="network_dim")
    alpha: float = setting(16.0, "Strength at which the adapter is applied, divided by the rank; half or all of the rank is usual.", "Alpha", gt=0, le=4096, kohya="network_alpha", sd_scripts="network_alpha")
    conv_rank: int = setting(0, "Rank for the 3×3 convolutions (LoCon); 0 leaves them alone.", "卷积秩", ge=0, le=1024, level="advanced", kohya="conv_dim", sd_scripts="conv_dim")
    conv_alpha: float = setting(1.0, "Alpha for the convolutions.", "卷积 Alpha", gt=0, le=4096, level="advanced", kohya="conv_alpha", sd_scripts="conv_alpha")
    rank_stabilised: bool = setting(False, "Divide alpha by the square root of the rank instead of the rank (rsLoRA): large ranks then learn as fast as small ones.", "秩稳定缩放 (rsLoRA)", label="Rank-stabilised scale", level="expert")
    dora_norm: Literal["input", "output"] = setting("input", "DoRA: one magnitude for each input of a layer, which all programs read alike, or for each output, as peft.", "DoRA 归一化方向", label="DoRA magnitudes", level="expert", when={"adapter.algorithm": "dora"})
    factor: int = setting(-1, "LoKr: size of the small factor; a smaller one makes larger files that can hold more, -1 the smallest files.", "LoKr 因子", label="LoKr factor", ge=-1, le=1024, level="advanced", when={"adapter.algorithm": "lokr"}, kohya="factor")
    decompose_both: bool = setting(False, "LoKr: give the small factor a low rank, too.", "LoKr 同时分解两者", label="LoKr decompose both", level="expert", when={"adapter.algorithm": "lokr"}, kohya="decompose_both")
    full_matrix: bool = setting(False, "LoKr: keep the large factor whole whatever the rank is; larger files that can hold more.", "LoKr 完整矩阵", label="LoKr full matrix", level="expert", when={"adapter.algorithm": "lokr"})
    block_size: int = setting(1, "DyLoRA: how many ranks are trained together; the file can later be cut to any multiple of it.", "DyLoRA 块大小", label="DyLoRA block size", ge=1, le=1024, level="advanced", when={"adapter.algorithm": "dylora"}, kohya="unit")
    min_rank: int = setting(8, "T-LoRA: the rank that learns in pure noise; towards the finished picture it grows to the whole rank.", "T-LoRA 最小秩", label="T-LoRA minimum rank", ge=1, le=1024, level="advanced", when={"adapter.algorithm": "tlora"})
    constraint: float = setting(0.0, "OFT and BOFT: how far a layer may be turned, per output; 0 lets it turn freely, 0.0001 holds it closely.", "OFT 约束", label="OFT constraint", ge=0, le=1000, level="expert", kohya="constrain")
    rescaled: bool = setting(False, "OFT and BOFT: learn a factor for each output besides the turning; ComfyUI does not read it for OFT.", "OFT 缩放", label="OFT rescaled", level="expert", kohya="rescaled")
    on_input: bool = setting(False, "Learn factors for the inputs of layers instead of their outputs (with (IA)³).", "IA3 作用于输入", label="IA³ on inputs", level="expert", when={"adapter.algorithm": "ia3"}, kohya="train_on_input")
    full_convolutions: bool = setting(False, "Full: train the convolutions as well, not only attention and feed-forward layers.", "全量训练卷积层", label="Full convolutions", level="expert", when={"adapter.algorithm": "full"})
    norms: bool = setting(False, "Train the weights and biases of the norms as well, as LyCORIS' train_norm; adds very little to the file.", "训练归一化层", label="Train the norms", level="expert", kohya="train_norm")
    blocks: Literal["all", "up_blocks", "attention", "cross_attention", "attention_and_feed_forward", "residual_blocks", "b_lora", "b_lora_content", "b_lora_style"] = setting(
        "all", "Which layers of the UNet are trained; fewer train faster in less memory, B-LoRA keeps content and style apart.", "训练层", label="Layers of the UNet", level="advanced", kohya="LyCORIS_preset"
    )
    include_layers: str = setting("", "Train only layers whose name in the file fits one of these patterns, one a line, such as *attn2*.", "仅训练的层", kind="lines", level="expert")
    exclude_layers: str = setting("", "Leave out the layers whose name in the file fits one of these patterns, one a line, such as *ff_net*.", "排除的层", kind="lines", level="expert")
    layer_settings: str = setting("", "Own rank, alpha or share of the rate for layers, one line each, such as *attn2*: rank 8, alpha 4, rate 0.5.", "逐层设置", kind="lines", level="expert")
    outer_layers: bool = setting(False, "Also train the layers outside the blocks: embeddings of time and size, and, with a conv rank, both ends.", "训练外围层", level="expert")
    block_ranks: str = setting("", "Rank of each of the UNet's 23 blocks (or one number for all), 0 leaves a block out; empty means the rank above.", "分块秩", level="expert", kohya="block_dims")
    block_alphas: str = setting("", "Alpha of each of the UNet's 23 blocks, or one number for all; empty means the alpha above.", "分块 Alpha", level="expert", kohya="block_alphas")
    conv_block_ranks: str = setting("", "Rank for the 3×3 convolutions of each of the 23 blocks, or one number for all; empty means the conv rank.", "分块卷积秩", level="expert", kohya="conv_block_dims")
    conv_block_alphas: str = setting("", "Alpha for the 3×3 convolutions of each of the 23 blocks, or one number for all; empty means the conv alpha.", "分块卷积 Alpha", level="expert", kohya="conv_block_alphas")
    block_rates: str = setting("", "Factor of the learning rate in each of the UNet's 23 blocks, or one number for all; 0 leaves a block out.", "分块学习率系数", level="expert", kohya="down_lr_weight")
    start_from: str = setting("", "An adapter file to go on from instead of starting anew; it must have the ranks and alphas set here.", "起始权重", kind="file", level="advanced", kohya="network_weights", sd_scripts="network_weights")
    rank_from_file: bool = setting(False, "Take layers, ranks and alphas from the file to start from.", "从文件读取秩", label="Ranks from the file", level="advanced", kohya="dim_from_weights", sd_scripts="dim_from_weights")
    network_dropout: float = setting(0.0, "Share of single numbers inside the adapter that are left out at random in each step; 0.1 to 0.3 against over-training.", "网络 dropout", ge=0, le=0.99, level="advanced", kohya="network_dropout", sd_scripts="network_dropout")
    rank_dropout: float = setting(0.0, "Share of ranks that are left out at random for each image in each step.", "秩 dropout", ge=0, le=0.99, level="expert", kohya="rank_dropout")
    module_dropout: float = setting(0.0, "Share of layers whose adapter is left out at random in each step.", "模块 dropout", ge=0, le=0.99, level="expert", kohya="module_dropout")
    norm_limit: float = setting(0.0, "Largest size that the change of each layer may reach, kept after every step; 1 is usual, 0 sets no limit.", "权重范数上限", ge=0, le=1000, level="expert", kohya="scale_weight_norms", sd_scripts="scale_weight_norms")
    loraplus_unet_ratio: float = setting(1.0, "LoRA+: how many times faster the second matrix of each UNet layer learns; 1 is off, 16 is what its paper advises.", "LoRA+ 倍率 (UNet)", label="LoRA+ ratio, UNet", gt=0, le=1024, level="expert", kohya="loraplus_unet_lr_ratio")
    loraplus_text_ratio: float = setting(1.0, "LoRA+: the same for the layers of the text encoders.", "LoRA+ 倍率 (文本编码器)", label="LoRA+ ratio, text encoders", gt=0, le=1024, level="expert", kohya="loraplus_text_encoder_lr_ratio")
    unet: bool = setting(True, "Train the UNet: the part that draws.", "训练 UNet", label="Train the UNet", sd_scripts="network_train_text_encoder_only")
    text_encoder_1: bool = setting(False, "Train the first text encoder (CLIP-L); helps new words, over-trains easily.", "训练文本编码器 1", label="Train text encoder 1", sd_scripts="network_train_unet_only")
    text_encoder_2: bool = setting(False, "Train the second text encoder (OpenCLIP bigG).", "训练文本编码器 2", label="Train text encoder 2", sd_scripts="network_train_unet_only")
    text_encoder_stop: float = setting(0.0, "Steps after which the text encoders are trained no more; below 1 a share of the run, 0 to train them to the end.", "停止训练文本编码器", label="Stop training the text encoders", ge=0, le=10000000, level="advanced", kohya="stop_text_encoder_training")
