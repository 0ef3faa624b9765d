#!/bin/sh
# freshen.sh OUTPUT... -- INPUT...
# The end of a job that may find its outputs whole and leave them: they are then as new as the job.
# Inputs from the future, after a clock was set back, get that time too; or Snakemake would remove
# the outputs as older than what they are made from.
set -eu
first=$1
while [ "$1" != -- ]; do
  touch -c "$1"
  shift
done
shift
for input; do
  if [ "$input" -nt "$first" ]; then touch -c -r "$first" "$input"; fi
done
