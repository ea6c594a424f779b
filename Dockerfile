# All three packages with what clusters need. GPUs are the host's: `docker run --gpus all`, `apptainer exec --nv`.
FROM python:3.11-slim
# `--compile` builds what starts its kernels with a C compiler.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /teramind/
COPY packages /teramind/packages
RUN pip install --no-cache-dir -c /teramind/constraints.txt torch==2.13.0 \
 && pip install --no-cache-dir -c /teramind/constraints.txt \
        "/teramind/packages/teramind-data[s3,cluster,tensorstore]" \
        /teramind/packages/teramind-model \
        /teramind/packages/teramind-eval
WORKDIR /data
CMD ["teramind-model", "--help"]
