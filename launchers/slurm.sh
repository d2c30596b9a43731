#!/usr/bin/env bash
# Trains one run on several machines under Slurm, one process a GPU. The folders of Atelier, of the pictures, of the cache
# and of the runs must lie on a disk that all machines see. Adapt the lines below, then:
#   sbatch launchers/slurm.sh presets/mine.json
# The same command with a run folder resumes it.
#SBATCH --job-name=atelier
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
set -eu
cd -- "${SLURM_SUBMIT_DIR:?start this file with sbatch}"
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=29511 PYTHONUTF8=1
# Two minutes before the time is up Slurm sends SIGTERM: the run saves its state and stops.
exec srun --kill-on-bad-exit=1 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec .venv/bin/python -m engine train "$@"' engine "$@"
