"""Settings of the section `sharing`: what the LoRA file tells about itself, and upload to the Hugging Face hub."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Sharing(Section):
    title: str = setting("", "Title in the LoRA file; empty is the run's name.", "标题", level="advanced", kohya="metadata_title", sd_scripts="metadata_title")
    author: str = setting("", "Author in the LoRA file; empty is the preset's author.", "作者", level="advanced", kohya="metadata_author", sd_scripts="metadata_author")
    description: str = setting("", "Description in the LoRA file; empty is the preset's note.", "描述", level="advanced", kohya="metadata_description", sd_scripts="metadata_description")
    license: str = setting("", "Licence in the LoRA file, such as CC-BY-4.0.", "许可证", label="Licence", level="advanced", kohya="metadata_license", sd_scripts="metadata_license")
    tags: str = setting("", "Tags in the LoRA file, between commas.", "标签", level="advanced", kohya="metadata_tags", sd_scripts="metadata_tags")
    trigger_phrase: str = setting("", "Words that call the LoRA, told in its file; empty is the trigger word of the captions.", "触发词说明", level="advanced", sd_scripts="metadata_trigger_phrase")
    usage_hint: str = setting("", "How to use the LoRA, told in its file.", "使用提示", level="expert", sd_scripts="metadata_usage_hint")
    merged_from: str = setting("", "Models that this one was merged from, told in its file.", "合并来源", level="expert", sd_scripts="metadata_merged_from")
    thumbnail: str = setting("", "Picture that the LoRA file carries as its thumbnail, made 256 pixels small.", "缩略图", kind="file", level="expert", sd_scripts="metadata_thumbnail")
    comment: str = setting("", "Free text in the LoRA file.", "训练备注", level="expert", kohya="training_comment", sd_scripts="training_comment")
    training_facts: bool = setting(True, "Write into the LoRA file how it was trained (tags, folder names, settings); off leaves only what programs need to load it.", "写入训练信息", level="advanced", sd_scripts="no_metadata")
    hub_repo: str = setting("", "Repository on the Hugging Face hub to upload to, such as user/my-lora; empty uploads nothing. Log in with `hf auth login` or HF_TOKEN first.", "上传仓库", label="Hub repository", level="advanced", kohya="huggingface_repo_id", sd_scripts="huggingface_repo_id")
    hub_files: Literal["final", "checkpoints", "checkpoints_and_states"] = setting("final", "What is uploaded: the final (and best) LoRA, every checkpoint, or states for a resume as well.", "上传内容", label="Upload", level="advanced")
    hub_folder: str = setting("", "Folder in the repository; empty is its top.", "仓库内路径", label="Folder in the repository", level="advanced", kohya="huggingface_path_in_repo", sd_scripts="huggingface_path_in_repo")
    hub_visibility: Literal["private", "public"] = setting("private", "Who may see the repository, where the upload makes it; one that exists stays as it is.", "仓库可见性", label="Repository is", level="advanced", kohya="huggingface_repo_visibility", sd_scripts="huggingface_repo_visibility")
