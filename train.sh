#!/usr/bin/env bash
# Trains a preset without the page; sets everything up on first use.
#   ./train.sh presets/demo.json [--set section.name=value ...] [--run FOLDER]
#   ./train.sh --gpus 2 presets/demo.json ...   (several GPUs of this machine)
# Given a run folder instead of a preset, it resumes that run. Paths count from the folder you are in.
set -eu
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
"$here/setup.sh" --if-needed
export PYTHONUTF8=1

# The engine works in Atelier's folder. Called from elsewhere, paths are made absolute first; a preset that is not
# there is looked for in Atelier's folder.
if [ "$PWD" != "$here" ]; then
    words=() before=
    for word in "$@"; do
        case $before:$word in
            --run:/* | --set:* | *:-*) ;;
            --run:*) word=$PWD/$word ;;
            *) [ -e "$PWD/$word" ] && word=$PWD/$word ;;
        esac
        words+=("$word")
        before=$word
    done
    set -- ${words[@]+"${words[@]}"}
    cd -- "$here"
fi
case ${1-} in
    --gpus | --gpus=*) exec "$here/.venv/bin/python" -m launchers.several "$@" ;;
    *) exec "$here/.venv/bin/python" -m engine train "$@" ;;
esac
