# A service of a trained model: llm-interest serve. The model and its data are mounted, not copied.
#
#   docker build --tag llm-interest .
#   docker build --tag llm-interest:cuda --build-arg TORCH_INDEX= .
#
# TORCH_INDEX is where pip looks for torch first: PyTorch's index of CPU builds keeps CUDA's libraries out. Without it, the
# package index gives a build with CUDA.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH_INDEX=""
ARG EXTRAS=serve,redis,index
WORKDIR /build
RUN python -m venv /opt/llm-interest
ENV PATH=/opt/llm-interest/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" -c constraints.txt torch torchvision; fi
COPY setup.py pyproject.toml README.md LICENSE llm_interest.py ./
COPY properties properties
COPY recbole_llm_interest recbole_llm_interest
RUN pip install -c constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}
COPY --from=build /opt/llm-interest /opt/llm-interest
ENV PATH=/opt/llm-interest/bin:$PATH OMP_NUM_THREADS=1
RUN useradd --create-home --uid 10001 service && mkdir /store && chown service /store
USER 10001
WORKDIR /home/service
VOLUME /store
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["llm-interest"]
CMD ["serve", "--help"]
