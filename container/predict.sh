#!/bin/sh
# What the competition runs, `sh predict.sh` in the image's working folder. Every input file gets
# an answer of the same name. The variables are for trying it outside the container.
exec "${PYTHON:-python}" -m segvol_gru predict-challenge \
    --inputs "${INPUTS:-/workspace/inputs}" \
    --outputs "${OUTPUTS:-/workspace/outputs}" \
    --model "${MODEL:-default}" \
    --corrector "${CORRECTOR:-field}" \
    --device "${DEVICE:-auto}"
