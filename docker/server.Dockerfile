# In the root of the repository:
#   docker build -f docker/server.Dockerfile -t segvol-gru-server .
#   docker run -p 127.0.0.1:1527:1527 -v segvol-gru:/data segvol-gru-server
FROM node:20-slim AS page
WORKDIR /opt/segvol-gru/page
COPY page/package.json page/package-lock.json ./
RUN npm ci
COPY page ./
RUN npm run build

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 segvol && mkdir /data && chown segvol /data
WORKDIR /opt/segvol-gru
# The CPU build of PyTorch; for a GPU build with --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir "torch>=2.6,!=2.9.*" --index-url "$TORCH_INDEX"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY --from=page /opt/segvol-gru/src/segvol_gru/interfaces/server/static \
    ./src/segvol_gru/interfaces/server/static
RUN pip install --no-cache-dir ".[server,demo,postgresql]"

USER segvol
VOLUME /data
EXPOSE 1527
HEALTHCHECK CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:1527/health')"]
# Inside a container every address is that of the host's port mapping, so names are listed.
CMD ["segvol-gru", "serve", "--host", "0.0.0.0", "--store", "/data", \
     "--allow-host", "localhost", "--allow-host", "127.0.0.1"]
