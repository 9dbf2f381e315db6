# See docs/containers.md. For an NVIDIA GPU, build with --build-arg TORCH_INDEX= (empty), and run with --gpus all.
FROM debian:bookworm-slim AS python
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# PyTorch's CPU build is 5 GB smaller than the one with CUDA, which is what an empty TORCH_INDEX gets
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt requirements-dev.txt ./
# The demo needs a typeface besides
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    -r requirements.txt $(sed -n 's/^\(font-caladea[^ ]*\).*/\1/p' requirements-dev.txt)
# An activated environment: make uses it
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH

# The page's libraries, from npm, which the rest does not need
FROM python AS page
RUN apt-get update && apt-get install -y --no-install-recommends npm
COPY helpers helpers
COPY scripts scripts
RUN python scripts/vendor_web.py

FROM python
COPY Makefile LICENSE *.py ./
COPY helpers helpers
COPY scripts scripts
COPY models models
COPY web web
COPY --from=page /app/web/vendor web/vendor
# hub: models that are fetched
ENV HF_HOME=/app/hub
RUN python -m compileall -q . && useradd --create-home --uid 1000 cards \
    && install -d -o cards image_cache index_out hub demo
USER cards
VOLUME ["/app/image_cache", "/app/index_out", "/app/hub"]
EXPOSE 8000
CMD ["make"]
