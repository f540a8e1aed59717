from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flts_assets.errors import ArtifactError
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs, Place, new_attempt
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import MODELS, ObjectHead

PLACE = Place(bucket=MODELS, config_hash="c" * 64, stage="gru_model", fingerprint="f" * 64)
FILES = {"weights": b"\x00\x01" * 500, "card.json": b"{}", "nothing": b""}
PICTURES = {"loss.png": b"PNG"}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def artifacts(store: DirectoryStore) -> Artifacts:
    return Artifacts(store)


def write(
    artifacts: Artifacts,
    attempt: str = "first",
    files: dict[str, bytes] = FILES,
    descriptions: dict[str, bytes] = PICTURES,
    replacing: str | None = None,
) -> Manifest:
    return artifacts.write(
        PLACE,
        Outputs(files, {"rows": 3}, descriptions),
        {"processed_data": "p"},
        code_version="1",
        attempt=attempt,
        replacing=replacing,
    )


def test_written_set_is_found_and_read_back_in_full(artifacts: Artifacts) -> None:
    written = write(artifacts)
    assert artifacts.find(PLACE) == artifacts.get(PLACE) == written
    assert artifacts.find_attempt(PLACE, "first") == artifacts.get(PLACE, "first") == written
    assert artifacts.read_all(written) == FILES | PICTURES
    assert (written.facts, written.inputs) == ({"rows": 3}, {"processed_data": "p"})
    assert written.total_size == 1005


def test_manifest_proves_each_file_by_size_and_sha(artifacts: Artifacts) -> None:
    records = write(artifacts).files
    assert {name for name, record in records.items() if record.describes} == set(PICTURES)
    for name, data in (FILES | PICTURES).items():
        assert records[name].size == len(data)
        assert records[name].sha256 == hashlib.sha256(data).hexdigest()
        assert records[name].key == f"{'c' * 64}/gru_model/{'f' * 16}/first/{name}"


def test_manifest_says_with_which_versions_it_was_made(artifacts: Artifacts) -> None:
    manifest = write(artifacts)
    assert {"flts", "torch", "numpy"} <= set(manifest.libraries)
    assert manifest.python.startswith("3.")
    assert manifest.created_at.tzinfo is not None


def test_nothing_is_found_where_nothing_was_written(artifacts: Artifacts) -> None:
    assert artifacts.find(PLACE) is None
    with pytest.raises(ArtifactError, match=r"no complete outputs of gru_model at models/c+/"):
        artifacts.get(PLACE)


ALTERED = b"\x00\x02" * 500


@pytest.mark.parametrize(
    "data", [None, FILES["weights"][:-1], ALTERED], ids=["missing", "truncated", "altered"]
)
def test_set_with_a_missing_truncated_or_altered_file_is_not_found(
    artifacts: Artifacts, store: DirectoryStore, data: bytes | None
) -> None:
    key = write(artifacts).files["weights"].key
    if data is None:
        store.delete(MODELS, key)
    else:
        store.put(MODELS, key, data)
    assert artifacts.find(PLACE) is None
    with pytest.raises(ArtifactError, match=r"no complete outputs of gru_model.*remedy.*c{64}"):
        artifacts.get(PLACE)


def test_missing_file_is_told_with_its_key(artifacts: Artifacts, store: DirectoryStore) -> None:
    written = write(artifacts)
    key = written.files["weights"].key
    store.delete(MODELS, key)
    with pytest.raises(ArtifactError, match=f"{MODELS}/{key} is missing; remedy"):
        artifacts.read(written, "weights")
    with pytest.raises(ArtifactError, match=f"{MODELS}/{key} is missing; remedy"):
        artifacts.read_all(written)


@pytest.mark.parametrize("data", [ALTERED, FILES["weights"][:-1]], ids=["altered", "truncated"])
def test_altered_bytes_are_refused_with_key_and_both_shas(
    artifacts: Artifacts, store: DirectoryStore, data: bytes
) -> None:
    written = write(artifacts)
    record = written.files["weights"]
    store.put(MODELS, record.key, data)
    with pytest.raises(ArtifactError) as caught:
        artifacts.read(written, "weights")
    text = str(caught.value)
    for told in (record.key, record.sha256, hashlib.sha256(data).hexdigest(), "remedy"):
        assert told in text


def test_unknown_file_name_is_refused_with_the_known_ones(artifacts: Artifacts) -> None:
    with pytest.raises(ArtifactError, match=r"received: 'weihgts'.*allowed: weights, card\.json"):
        artifacts.read(write(artifacts), "weihgts")


@pytest.mark.parametrize("text", [b"", b"{", b'{"format": 1}'])
def test_manifest_that_is_none_counts_as_nothing(
    artifacts: Artifacts, store: DirectoryStore, text: bytes
) -> None:
    store.put(MODELS, write(artifacts).key, text)
    assert artifacts.find(PLACE) is None
    with pytest.raises(ArtifactError, match="no complete outputs"):
        artifacts.get(PLACE)


@pytest.mark.parametrize("refused", ["card.json", "manifest.json", "current.json"])
def test_crash_before_the_end_leaves_nothing_visible_and_the_next_try_succeeds(
    artifacts: Artifacts, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    replace = DirectoryStore.replace_if_unchanged

    def crash(
        self: DirectoryStore, bucket: str, key: str, data: bytes, version: str | None
    ) -> ObjectHead:
        if key.endswith(refused):
            raise KeyboardInterrupt
        return replace(self, bucket, key, data, version)

    with monkeypatch.context() as broken:
        broken.setattr(DirectoryStore, "replace_if_unchanged", crash)
        with pytest.raises(KeyboardInterrupt):
            write(artifacts)
    assert artifacts.find(PLACE) is None
    assert artifacts.version(PLACE) is None
    assert list(store.list(MODELS)), "the crash came after the first file"
    assert write(artifacts, "second") == artifacts.find(PLACE)


def test_first_of_two_writers_counts_and_both_return_it(artifacts: Artifacts) -> None:
    faster = write(artifacts, "faster", {"weights": b"other"})
    assert write(artifacts, "slower") == faster
    assert artifacts.find(PLACE) == faster
    assert artifacts.read_all(faster) == {"weights": b"other"} | PICTURES


def test_recomputation_that_saw_what_stood_there_replaces_it_and_leaves_it_whole(
    artifacts: Artifacts,
) -> None:
    old = write(artifacts)
    new = write(artifacts, "second", {"weights": b"new"}, {}, artifacts.version(PLACE))
    assert artifacts.find(PLACE) == new
    assert artifacts.read_all(new) == {"weights": b"new"}
    assert artifacts.find_attempt(PLACE, "first") == old


def test_of_two_recomputations_the_first_to_end_counts(artifacts: Artifacts) -> None:
    write(artifacts)
    seen = artifacts.version(PLACE)
    winner = write(artifacts, "second", replacing=seen)
    assert write(artifacts, "third", replacing=seen) == winner
    assert artifacts.find(PLACE) == winner


def test_recomputation_of_an_incomplete_set_makes_it_complete(
    artifacts: Artifacts, store: DirectoryStore
) -> None:
    store.delete(MODELS, write(artifacts).files["weights"].key)
    again = write(artifacts, "second", replacing=artifacts.version(PLACE))
    assert artifacts.find(PLACE) == again
    assert artifacts.find_attempt(PLACE, "first") is None


def test_version_changes_with_the_attempt_that_counts(artifacts: Artifacts) -> None:
    seen = [artifacts.version(PLACE)]
    for attempt in ("first", "second"):
        write(artifacts, attempt, replacing=seen[-1])
        seen.append(artifacts.version(PLACE))
    assert seen[0] is None
    assert len(set(seen)) == 3


def test_identity_is_that_of_the_content_whoever_made_it_and_however_it_is_described(
    artifacts: Artifacts,
) -> None:
    one = write(artifacts).identity
    turned = dict(reversed(FILES.items()))
    again = write(artifacts, "second", turned, {"loss.png": b"other"}, artifacts.version(PLACE))
    assert again.attempt == "second"
    assert again.identity == one
    assert len(one) == 64


@pytest.mark.parametrize(
    "files",
    [{**FILES, "weights": ALTERED}, {**FILES, "more": b""}, {"weights": b"", "card.json": b"{}"}],
    ids=["other bytes", "another file", "a file less"],
)
def test_other_content_is_another_identity(artifacts: Artifacts, files: dict[str, bytes]) -> None:
    one = write(artifacts)
    other = write(artifacts, "second", files, replacing=artifacts.version(PLACE))
    assert other.attempt == "second"
    assert other.identity != one.identity


def test_the_same_content_made_from_other_inputs_is_another_identity(artifacts: Artifacts) -> None:
    one = write(artifacts)
    elsewhere = one.place.model_copy(update={"fingerprint": "e" * 64})
    assert one.model_copy(update={"place": elsewhere}).identity != one.identity


def test_attempts_have_names_of_their_own_that_are_keys() -> None:
    attempts = {new_attempt() for _ in range(200)}
    assert len(attempts) == 200
    assert all(attempt.isalnum() for attempt in attempts)
