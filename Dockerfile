# The service on a CPU: docker build -t kryptonite . ; see docs/deployment.md.
# Any image with Python 3.10 to 3.12, pip and venv will do as the base.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# PyPI's torch brings several GB of CUDA libraries, which this image has no use for.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH="torch torchvision"
RUN python3 -m venv /opt/kryptonite
ENV PATH=/opt/kryptonite/bin:$PATH PIP_NO_CACHE_DIR=1
RUN pip install --index-url "${TORCH_INDEX}" ${TORCH}
WORKDIR /src
COPY pyproject.toml uv.lock ./
# All other packages at their locked versions.
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install uv \
    && /opt/uv/bin/uv export --frozen --quiet --all-extras --no-hashes --no-emit-project \
    --prune torch --prune torchvision --output-file constraints.txt
COPY README.md LICENSE ./
COPY configs configs
COPY detection detection
COPY fusion fusion
COPY liveness liveness
COPY recognition recognition
COPY kryptonite kryptonite
RUN pip install --constraint constraints.txt '.[serve]'

FROM ${BASE}
# OpenCV links to them, though no window is ever opened.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home kryptonite
COPY --from=build /opt/kryptonite /opt/kryptonite
ENV PATH=/opt/kryptonite/bin:$PATH PYTHONUNBUFFERED=1
USER kryptonite
WORKDIR /home/kryptonite
EXPOSE 8000
# /run-folder is where a finished or a published run is mounted.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v1/health', timeout=4)"]
ENTRYPOINT ["kryptonite"]
CMD ["serve", "--run", "/run-folder", "--host", "0.0.0.0"]
