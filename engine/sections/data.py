"""Settings of the section `data`: pictures, buckets, latents."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Data(Section):
    folder: str = setting("", "The training folder: its sub-folders are named like 10_name, where 10 is how often each image is shown per epoch; or an sd-scripts data-set TOML.", "训练图像文件夹", label="Training folder", kind="folder", kohya="train_data_dir", sd_scripts="train_data_dir")
    regularization_folder: str = setting("", "Pictures of the general class, in the same folder layout, that keep the model from forgetting it; empty for none.", "正则化图像文件夹", kind="folder", level="advanced", kohya="reg_data_dir", sd_scripts="reg_data_dir")
    width_px: int = setting(1024, "Width of the training resolution; SDXL was made at 1024 × 1024.", "训练宽度", ge=64, le=4096, multiple_of=8, unit="px", kohya="max_resolution", sd_scripts="resolution")
    height_px: int = setting(1024, "Height of the training resolution.", "训练高度", ge=64, le=4096, multiple_of=8, unit="px", kohya="max_resolution", sd_scripts="resolution")
    bucketing: bool = setting(True, "Sort images into buckets by aspect ratio instead of cropping all to one size.", "宽高比分桶 (ARB)", label="Aspect-ratio buckets", kohya="enable_bucket", sd_scripts="enable_bucket")
    bucket_min_px: int = setting(256, "Shortest side that a bucket may have.", "分桶最小边长", ge=32, le=4096, unit="px", level="advanced", when={"data.bucketing": True}, kohya="min_bucket_reso", sd_scripts="min_bucket_reso")
    bucket_max_px: int = setting(2048, "Longest side that a bucket may have.", "分桶最大边长", ge=32, le=8192, unit="px", level="advanced", when={"data.bucketing": True}, kohya="max_bucket_reso", sd_scripts="max_bucket_reso")
    bucket_step_px: int = setting(64, "Bucket sides are multiples of this.", "分桶步长", ge=8, le=256, multiple_of=8, unit="px", level="advanced", when={"data.bucketing": True}, kohya="bucket_reso_steps", sd_scripts="bucket_reso_steps")
    upscale_small_images: bool = setting(True, "Enlarge images that are smaller than their bucket; off gives them a bucket of their own size.", "放大小图", level="advanced", when={"data.bucketing": True}, kohya="bucket_no_upscale", sd_scripts="bucket_no_upscale")
    random_crop: bool = setting(False, "Cut the bucket at a new random place each epoch instead of at the centre; needs uncached latents.", "随机裁剪", level="advanced", kohya="random_crop", sd_scripts="random_crop")
    flip: bool = setting(False, "Mirror each image left to right at random, half of the time; not for faces or text.", "水平翻转", kohya="flip_aug", sd_scripts="flip_aug")
    color_jitter: bool = setting(False, "Shift hues or brightness slightly, in a third of the showings; not for a style whose colours matter; needs uncached latents.", "颜色抖动", label="Colour jitter", level="advanced", kohya="color_aug", sd_scripts="color_aug")
    resampling: Literal["auto", "area", "lanczos", "bicubic", "bilinear", "nearest"] = setting("auto", "How images are resized; auto averages areas to shrink and uses Lanczos to enlarge; nearest keeps pixel art sharp.", "缩放算法", level="expert", sd_scripts="resize_interpolation")
    background: str = setting("#ffffff", "The colour put behind transparent pixels, as #rrggbb.", "透明背景颜色", kind="color", level="advanced")
    broken_images: Literal["skip", "stop"] = setting("skip", "What to do with an image that cannot be read: leave it out with a warning, or stop the run.", "损坏图像", level="advanced")
    cache_latents: bool = setting(True, "Encode each image once and keep the result on disk: faster steps, less memory.", "缓存潜变量", kohya="cache_latents", sd_scripts="cache_latents")
    cache_folder: str = setting("cache", "Where cached latents and text features are kept; never between your images.", "缓存文件夹", kind="folder", level="expert")
