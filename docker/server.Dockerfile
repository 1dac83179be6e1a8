# docker build -f docker/server.Dockerfile -t segvol-gru-server .
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 segvol && mkdir /data && chown segvol /data
WORKDIR /opt/segvol-gru
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# The CPU build of PyTorch; for a GPU build with --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir "torch>=2.6,!=2.9.*" --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir ".[server]"

USER segvol
VOLUME /data
EXPOSE 1527
# Inside a container every address is that of the host's port mapping, so names are listed.
CMD ["segvol-gru", "serve", "--host", "0.0.0.0", "--store", "/data", \
     "--allow-host", "localhost", "--allow-host", "127.0.0.1"]
