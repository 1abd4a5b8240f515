# The environment of requirements.lock, for containers: docs/containers.md.
#   docker build -t mclr .
FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/* \
 && git config --system --add safe.directory '*'
WORKDIR /opt/mclr
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY mclr mclr
COPY data/versions.csv data/
# CPU=1: without CUDA, docker build --build-arg CPU=1 .
ARG CPU=
RUN make env PYTHON=python3.11 CPU=$CPU
ENV PATH=/opt/mclr/.venv/bin:$PATH
WORKDIR /work
CMD ["mclr", "--help"]
