"""New or changed raw data starts what it concerns, once for each content.

    X.csv, X_test.csv stand still      every template marked `auto: true` is registered for station X, its
                                       partition added, and one run of its stages requested
                                       every other recipe that names one of the files and was run before:
                                       `raw_data` alone, whose new data version brings the rest up to date

A template counts once two looks found it the same, so that none is used half-written. One that is new,
mended or newly marked has every station looked at again.

Nothing is requested where raw_data has seen this very content already. Dagster stores partitions, run
requests and cursor together, and starts no second run with the same key: a tick that was killed is
repeated without harm. Content that fails is not tried again; other content is. A file that cannot be
read is told of once and waits until it can be.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.raw import raw_fingerprint
from flts_assets.assets.stage import RAW_DATA, Materialized, latest_materializations, run_tags
from flts_assets.automation.complaints import Complaints
from flts_assets.automation.dataset_watch import (
    ENDING,
    DatasetCursor,
    DatasetWatch,
    Pair,
    stations_in,
    unpaired_in,
)
from flts_assets.automation.jobs import STARTED_BY_TAG, WHOLE_TAG, pipeline
from flts_assets.automation.known_recipes import AutoTemplates, registered_recipes
from flts_assets.automation.launch import stages_of
from flts_assets.automation.under_way import partitions_under_way
from flts_assets.errors import ObjectNotFoundError
from flts_assets.logs import EventLog, event_log
from flts_assets.recipe import Recipe
from flts_assets.stores.object_store import DATASET, ObjectStore

__all__ = ["look_for_new_data", "raw_data_sensor"]

INTERVAL_S = 10
"""A file that two looks find unchanged counts as complete: long enough for a copy to show that it goes
on, short enough that nobody waits. A look lists names; bytes are read only of what changed."""
PAIRS_A_TICK = 25
REQUESTS_A_TICK = 50
"""A registration each, and a run that Dagster records when the tick has ended."""
SECONDS_A_TICK = 1.0
"""No pair is begun later: most of it goes to reading and hashing."""
UNPAIRED_SHOWN = 5
"""names in the reason of a skipped tick"""


@dg.sensor(
    job=pipeline,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs what new or changed files in the dataset bucket concern, once for each content.",
)
def raw_data_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    log = event_log(context.log, sensor="raw_data_sensor")
    return look_for_new_data(platform, context.instance, context.cursor, log)


def look_for_new_data(
    platform: Platform, instance: dg.DagsterInstance, cursor: str | None, log: EventLog
) -> dg.SensorResult:
    """One look: partitions and run requests for what is due, within the bounds of a tick."""
    before = DatasetCursor.parsed(cursor)
    complain = Complaints(log, before.told)
    templates = AutoTemplates(platform.settings.recipes_folder, complain, before.templates)
    watch = DatasetWatch(before, _csv_versions(platform.store, complain))
    if templates.is_any_new:
        stations = stations_in(watch.versions)
        watch.again(file for station in stations for file in Pair.of_station(station).files)
    if not watch.due:
        complain.keep_all()
        return dg.SensorResult(
            skip_reason=_why_nothing(watch), cursor=str(watch.cursor(complain.made, templates.seen))
        )
    tick = _Tick(platform, instance, watch, templates, log, complain)
    tick.work_off()
    return tick.result()


def _csv_versions(store: ObjectStore, complain: Complaints) -> dict[str, str]:
    """File -> version of those that recipes can name; a bucket may hold anything.

    A name that only looks like one of them is told: whoever put it there waits for a model. Folders are
    somebody's own.
    """
    names: list[str] = []
    versions = {}
    for head in store.list(DATASET, stray=names.append):
        if head.key.endswith(ENDING) and "/" not in head.key:
            versions[head.key] = head.version
        else:
            names.append(head.key)
    for name in names:
        if name.lower().endswith(ENDING) and not name.startswith(".") and "/" not in name:
            complain.about(
                f"name {name}",
                "file_name_unusable",
                file=name,
                message=f"{name!r} is passed over; allowed: a name of letters, digits and . _ = + - that"
                f" begins with a letter, a digit or _ and ends in {ENDING};"
                " remedy: rename it, and its partner likewise",
            )
    return versions


def _why_nothing(watch: DatasetWatch) -> str:
    changed = len(watch.waiting)
    if changed:
        return f"{changed} file(s) changed since the last look: waiting until they stand still"
    told = f"nothing changed among {len(watch.versions)} file(s)"
    if unpaired := unpaired_in(watch.versions):
        shown = ", ".join(unpaired[:UNPAIRED_SHOWN]) + (", …" if unpaired[UNPAIRED_SHOWN:] else "")
        told += f"; without STATION.csv or STATION_test.csv beside: {shown}"
    return told


@dataclass(frozen=True)
class _Concerned:
    """A recipe that a pair of files concerns."""

    recipe: Recipe
    whole: bool
    """all its stages, or raw_data alone"""
    latest: Materialized | None
    """of its raw_data"""

    def request(self, *digests: str) -> dg.RunRequest | None:
        """What files with these digests call for; None if raw_data saw them last."""
        recipe = self.recipe
        fingerprint = raw_fingerprint(recipe.config_hash, *digests)
        if self.latest is not None and self.latest.fingerprint == fingerprint:
            return None
        stages = stages_of(recipe) if self.whole else (RAW_DATA.name,)
        whole = {WHOLE_TAG: "true"} if self.whole else {}
        # What it follows stands in the key too: content that was replaced may come back.
        after = "nothing" if self.latest is None else self.latest.storage_id
        return dg.RunRequest(
            run_key=f"{recipe.config_hash}:{fingerprint[:16]}:{after}",
            partition_key=recipe.config_hash,
            asset_selection=[dg.AssetKey(stage) for stage in stages],
            tags={**run_tags(recipe), **whole, STARTED_BY_TAG: "raw_data_sensor"},
        )


class _Tick:
    """Working off what is due."""

    def __init__(
        self,
        platform: Platform,
        instance: dg.DagsterInstance,
        watch: DatasetWatch,
        templates: AutoTemplates,
        log: EventLog,
        complain: Complaints,
    ) -> None:
        self._platform = platform
        self._instance = instance
        self._watch = watch
        self._templates = templates
        self._log = log
        self._complain = complain
        self._partitions: list[str] = []
        self._requests: list[dg.RunRequest] = []
        self._looked_at: dict[Pair, bool] = {}
        self._unreadable: set[str] = set()

        self._stations = set(stations_in(watch.versions))
        self._registered: dict[Pair, list[Recipe]] = defaultdict(list)
        self._pairs: dict[str, set[Pair]] = defaultdict(set)
        for recipe in registered_recipes(platform.registry, self._complain):
            self._know(Pair(recipe.data.train_file, recipe.data.test_file), recipe)
        for station in self._stations:
            self._know(Pair.of_station(station))

    def _know(self, pair: Pair, *recipes: Recipe) -> None:
        self._registered[pair].extend(recipes)
        for file in pair.files:
            self._pairs[file].add(pair)

    def work_off(self) -> None:
        """File by file, until all are done or the tick has done enough."""
        due = dict.fromkeys(self._watch.due)
        end = time.monotonic() + SECONDS_A_TICK
        while due and not self._has_done_enough(end):
            file = next(iter(due))
            # Those it stands in a pair with come along, so that no pair is read in two ticks.
            together = {file, *(other for pair in self._pairs[file] for other in pair.files)}
            for one in sorted(together & due.keys()):
                del due[one]
                self._work_off(one)

    def _has_done_enough(self, end: float) -> bool:
        """However long a pair takes to read, each tick gets one."""
        return (
            len(self._looked_at) >= PAIRS_A_TICK
            or len(self._requests) >= REQUESTS_A_TICK
            or (bool(self._looked_at) and time.monotonic() > end)
        )

    def _work_off(self, file: str) -> None:
        # A pair whose other file still changes comes again with that one.
        pairs = [pair for pair in sorted(self._pairs[file]) if self._watch.is_settled(pair)]
        done = [self._is_done_with(pair) for pair in pairs]  # each is looked at
        if all(done):
            self._watch.done(file)
        else:
            self._watch.postpone(file)

    def result(self) -> dg.SensorResult:
        nothing = not self._requests and not self._partitions
        for file in self._watch.waiting:
            self._complain.keep(self._version(file))
        return dg.SensorResult(
            skip_reason="what changed concerns no recipe that is not up to date or under way"
            if nothing
            else None,
            run_requests=self._requests or None,
            dynamic_partitions_requests=[CONFIG_HASH.build_add_request(self._partitions)]
            if self._partitions
            else None,
            cursor=str(self._watch.cursor(self._complain.made, self._templates.seen)),
        )

    def _is_done_with(self, pair: Pair) -> bool:
        if pair not in self._looked_at:
            self._looked_at[pair] = self._look_at(pair)
        return self._looked_at[pair]

    def _look_at(self, pair: Pair) -> bool:
        """Request what the pair's content calls for; False if some of it has to wait.

        A recipe that is being worked on waits: its run may read the old or the new content.
        """
        whole = {recipe.config_hash: recipe for recipe in self._made_from_templates(pair)}
        recipes = {recipe.config_hash: recipe for recipe in self._registered[pair]} | whole
        busy = partitions_under_way(self._instance, recipes)
        latest = latest_materializations(self._instance, RAW_DATA, recipes.keys() - busy)
        concerned = [
            _Concerned(recipe, config_hash in whole, latest.get(config_hash))
            for config_hash, recipe in recipes.items()
            if config_hash not in busy and (config_hash in whole or config_hash in latest)
        ]
        digests = self._digests(pair) if concerned else None
        new = self._without_spent([one.request(*digests) for one in concerned]) if digests else []
        room = REQUESTS_A_TICK - len(self._requests)
        for request in new[:room]:
            self._request(request, recipes[str(request.partition_key)])
        return not busy and len(new) <= room and self._unreadable.isdisjoint(pair.files)

    def _made_from_templates(self, pair: Pair) -> list[Recipe]:
        if pair.station not in self._stations:
            return []
        assert pair.station is not None
        return [template.for_station(pair.station) for template in self._templates.usable]

    def _digests(self, pair: Pair) -> tuple[str, str] | None:
        """SHA-256 of both files; None if one cannot be read, or changed since it was listed, which the
        next look sees."""
        digests = []
        for file in pair.files:
            try:
                content, head = self._platform.store.get_with_head(DATASET, file)
            except ObjectNotFoundError:
                return None
            except OSError as error:
                self._unreadable.add(file)
                self._complain.about(
                    self._version(file), "file_unreadable", file=file, message=str(error)
                )
                return None
            if head.version != self._watch.versions[file]:
                return None
            digests.append(hashlib.sha256(content).hexdigest())
        return digests[0], digests[1]

    def _without_spent(self, wanted: Iterable[dg.RunRequest | None]) -> list[dg.RunRequest]:
        """Those that no run was started for yet, whatever became of it."""
        requests = {str(one.run_key): one for one in wanted if one is not None}
        if not requests:
            return []
        spent = self._instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: list(requests)}))
        for run in spent:
            requests.pop(run.tags[RUN_KEY_TAG], None)
        return list(requests.values())

    def _request(self, request: dg.RunRequest, recipe: Recipe) -> None:
        self._platform.registry.register(recipe)
        self._partitions.append(recipe.config_hash)
        self._requests.append(request)
        self._log.info(
            "raw_data_changed",
            recipe=recipe.name,
            config_hash=recipe.config_hash,
            files=[recipe.data.train_file, recipe.data.test_file],
            stages=[key.to_user_string() for key in request.asset_selection or ()],
        )

    def _version(self, file: str) -> str:
        return f"{file} {self._watch.versions[file]}"
