"""A champion as it stands in the stores, read again and proven."""

from functools import cached_property, partial

from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import dataset_in
from flts_assets.assets.stage import PROCESSED
from flts_assets.errors import ArtifactError, PromotionError
from flts_assets.forecasting.forecaster import (
    EXAMPLE_FILE,
    Forecaster,
    check_example,
    load_forecaster,
)
from flts_assets.forecasting.metrics import Scores
from flts_assets.forecasting.verification import scores_on_test
from flts_assets.stores.artifacts import Manifest
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Pointer, Promotion

__all__ = ["Champion"]


class Champion:
    """What a pointer leads to. Nothing is read before it is asked for; each part is read once."""

    def __init__(self, platform: Platform, config_hash: str, pointer: Pointer) -> None:
        self._platform = platform
        self.config_hash = config_hash
        self.pointer = pointer

    @cached_property
    def promotion(self) -> Promotion:
        """Raises PromotionError where nothing was promoted, or no promotion can be read."""
        current = self.pointer.read()
        if current is None:
            raise PromotionError(
                f"nothing stands at {MODEL_PROMOTION}/{self.pointer.key}",
                remedy="materialise promoted_model, or run the job pipeline",
            )
        return current[0]

    @cached_property
    def manifest(self) -> Manifest:
        """Raises ArtifactError unless every file stands unaltered."""
        return self._platform.artifacts.get(self.promotion.model, self.promotion.attempt)

    @cached_property
    def forecaster(self) -> Forecaster:
        """Loaded, and proven to give its recorded forecast. Raises ArtifactError."""
        files = self._platform.artifacts.read_all(self.manifest)
        forecaster = load_forecaster(files, self._platform.settings.step_threads)
        check_example(forecaster, files[EXAMPLE_FILE])
        return forecaster

    def scores_on_test(self) -> Scores:
        """Of the loaded model, on the test windows it was promoted for. Raises ArtifactError."""
        artifacts = self._platform.artifacts
        identity = self.manifest.inputs[PROCESSED.name]
        processed = artifacts.of_identity(
            PROCESSED.bucket, self.config_hash, PROCESSED.name, identity
        )
        if processed is None:
            raise ArtifactError(
                f"the {PROCESSED.name} that the champion was trained on is gone",
                received=identity,
                remedy="materialise the partition again",
            )
        recipe = self._platform.registry.get(self.config_hash)
        data, _ = dataset_in(partial(artifacts.open, processed), recipe)
        return scores_on_test(self.forecaster, data, recipe)
