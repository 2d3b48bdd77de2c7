import orjson
import pytest

from rlaif.errors import RunError, RunMismatch
from rlaif.runs import Manifest
from rlaif.runs.manifest import check_same_plan, load_manifest, write_manifest
from tests.runs.made import make_manifest


def test_a_manifest_survives_the_disk(tmp_path):
    manifest = make_manifest(judging={"orders": ("both", "one")})
    write_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest


def test_the_label_names_run_and_plan():
    manifest = make_manifest()
    assert manifest.label == f"demo@{manifest.fingerprint[:12]}"
    assert manifest.templates == {"judge/pairwise.j2": "f00"}
    assert manifest.versions["python"].startswith("3.")


def test_the_fingerprint_follows_the_plan_and_nothing_else():
    one, other = make_manifest(), make_manifest()
    assert one.fingerprint == other.fingerprint
    assert make_manifest(seed=8).fingerprint != one.fingerprint


def test_another_plan_is_refused_with_the_keys_that_differ(tmp_path):
    old = make_manifest(judging={"orders": "both", "min_mass": 0.0}, judges=[{"weight": 1.0}])
    new = make_manifest(judging={"orders": "one"}, judges=[{"weight": 2.0}], extra=True)
    with pytest.raises(RunMismatch) as caught:
        check_same_plan(tmp_path, old, new)
    assert caught.value.message.splitlines()[1:] == [
        "  extra: (not set) → true",
        "  judges.0.weight: 1.0 → 2.0",
        "  judging.min_mass: 0.0 → (not set)",
        '  judging.orders: "both" → "one"',
    ]
    assert "out" in caught.value.hint


def test_at_most_eight_keys_are_shown_and_long_values_cut(tmp_path):
    old = make_manifest(**{f"key{n}": "x" * 500 for n in range(12)})
    new = make_manifest(**{f"key{n}": "y" for n in range(12)})
    with pytest.raises(RunMismatch) as caught:
        check_same_plan(tmp_path, old, new)
    lines = caught.value.message.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "  and 4 more"
    assert max(map(len, lines[1:])) < 100


def test_a_newer_manifest_is_refused(tmp_path):
    data = make_manifest().model_dump(mode="json") | {"number": 99, "unheard_of": 1}
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(data))
    with pytest.raises(RunMismatch, match="newer version"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"number": "1"}', b'{"number": 1}', b"\xff\xfe"],
)
def test_a_damaged_manifest_is_an_error(tmp_path, data):
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(RunError, match=r"manifest\.json: damaged") as caught:
        load_manifest(tmp_path)
    assert caught.value.hint


def test_an_edited_plan_is_noticed(tmp_path):
    write_manifest(tmp_path, make_manifest())
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(RunError, match="edited"):
        load_manifest(tmp_path)


def test_a_missing_manifest_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_manifest(tmp_path)


def test_values_that_json_does_not_have_are_a_programming_error():
    with pytest.raises(TypeError):
        Manifest.build(
            name="x",
            plan={"engine": object()},
            config={},
            constitution_label="c",
            constitution={},
            engines={},
        )
