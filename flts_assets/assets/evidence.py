"""Where the verification report looks: every stage's manifest and files, MLflow, the pointer, Dagster.

Nothing here trusts what a step just wrote: all is read back from where later readers would find it. Each
piece is read once; one that is missing or altered raises an FltsError whenever it is asked for.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import BinaryIO

import dagster as dg

from flts_assets.assets.backtest import BACKTEST
from flts_assets.assets.leaderboard import load_board
from flts_assets.assets.models import MODEL_STAGES, candidates_of
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import dataset_in
from flts_assets.assets.raw import open_dataset_file
from flts_assets.assets.stage import LEADERBOARD, PROCESSED, RAW_DATA, Stage, latest_place
from flts_assets.errors import EvidenceError, TrackingError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.forecasting.parquet import StoredSplit
from flts_assets.recipe import CandidateType, Recipe
from flts_assets.stores.artifacts import Manifest
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Pointer, Promotion
from flts_assets.stores.tracked import TrackedRun, tracked_run

__all__ = ["Evidence"]


class Evidence:
    """What stands in the stores for one recipe."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, recipe: Recipe) -> None:
        self.platform = platform
        self.instance = instance
        self.recipe = recipe
        self.config_hash = recipe.config_hash
        self._manifests: dict[str, Manifest] = {}
        self._runs: dict[str, TrackedRun] = {}

    @property
    def candidates(self) -> tuple[CandidateType, ...]:
        return candidates_of(self.recipe)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those with outputs that this recipe asks for, in the order of their dependence."""
        return (
            *(RAW_DATA, PROCESSED),
            *(MODEL_STAGES[name] for name in self.candidates),
            *((BACKTEST,) if self.recipe.backtest.cutoffs else ()),
            LEADERBOARD,
        )

    def manifest(self, stage: Stage) -> Manifest:
        """Of what Dagster materialised last, its files not looked at."""
        if stage.name not in self._manifests:
            place = latest_place(self.instance, stage, self.config_hash)
            if place is None:
                raise EvidenceError(
                    f"{stage.name} of this partition was never materialised",
                    remedy="run the job pipeline",
                )
            self._manifests[stage.name] = self.platform.artifacts.described(place)
        return self._manifests[stage.name]

    def model(self, name: CandidateType) -> Manifest:
        return self.manifest(MODEL_STAGES[name])

    def dataset_file(self, role: str) -> BinaryIO:
        data = self.recipe.data
        file = {"train": data.train_file, "test": data.test_file}[role]
        return open_dataset_file(self.platform.store, file)

    @cached_property
    def _processed(self) -> tuple[Dataset, dict[str, StoredSplit]]:
        """Whether each file is the one its manifest names is a line of its own; here rows speak."""
        files, store = self.manifest(PROCESSED).files, self.platform.store
        return dataset_in(lambda name: store.open(PROCESSED.bucket, files[name].key), self.recipe)

    @property
    def data(self) -> Dataset:
        return self._processed[0]

    @property
    def rows(self) -> Mapping[str, StoredSplit]:
        return self._processed[1]

    @cached_property
    def board(self) -> Leaderboard:
        return load_board(self.platform.artifacts, self.manifest(LEADERBOARD))

    def run(self, run_id: str) -> TrackedRun:
        """The MLflow run. Raises TrackingError."""
        if run_id not in self._runs:
            self._runs[run_id] = tracked_run(self.platform.tracking, run_id)
        return self._runs[run_id]

    def run_of(self, name: CandidateType) -> TrackedRun:
        """The MLflow run of the training that stands in the store, by the leaderboard's record."""
        run_id = self.board.entry(name).run_id
        if run_id is None:
            raise TrackingError(f"the leaderboard names no MLflow run of {name}")
        return self.run(run_id)

    @cached_property
    def pointer(self) -> Pointer:
        return self.platform.pointer(self.config_hash)

    @cached_property
    def at_pointer(self) -> Promotion:
        """What current.json says. Raises PromotionError, EvidenceError."""
        current = self.pointer.read()
        if current is None:
            raise EvidenceError(
                f"nothing stands at {MODEL_PROMOTION}/{self.pointer.key}",
                remedy="materialise promoted_model",
            )
        return current[0]

    @cached_property
    def promotion(self) -> Promotion:
        """The promotion this report speaks of: the pointer's, as the history holds it.

        Where the pointer was altered, which the pointer's own line tells, the newest of the history.
        """
        records = self.pointer.records()
        if not records:
            raise EvidenceError(f"no history stands beside {MODEL_PROMOTION}/{self.pointer.key}")
        try:
            key = self.pointer.key_of(self.at_pointer)
        except Exception:  # an unreadable pointer is told by its own line
            key = None
        return records.get(str(key)) or records[max(records)]
