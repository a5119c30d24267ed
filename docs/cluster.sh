#!/bin/bash
# Green-Kubo on several nodes: a dask cluster inside one batch job (Slurm).
#
#   sbatch docs/cluster.sh
#
# The same three steps start a cluster under any other scheduler: one `dask scheduler`, a
# `dask worker` on every node, and the command that uses them. All nodes must see the files.
# `stepson run CONFIG --scheduler FILE` shares the replicas of a run in the same way.
#SBATCH --job-name=stepson-gk
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=01:00:00

set -eu
file=$PWD/scheduler-$SLURM_JOB_ID.json
export OMP_NUM_THREADS=1  # the workers share the cores among their own threads

dask scheduler --scheduler-file "$file" --no-dashboard &
srun dask worker --scheduler-file "$file" --nworkers "$SLURM_CPUS_PER_TASK" --nthreads 1 \
    --no-dashboard --local-directory "${TMPDIR:-/tmp}" &

until [ -s "$file" ]; do sleep 1; done
stepson gk production --scheduler "$file" -o result
